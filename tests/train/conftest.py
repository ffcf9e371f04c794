"""Tiny models with random weights, documents of random tokens, and settings that fit them."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch

from distill.cards import StudentCard
from distill.recipes import Training
from distill.train.documents import Document

VOCABULARY_SIZE = 96


def build_model(
    kind: str = "qwen2",
    *,
    attn_implementation: str = "sdpa",
    seed: int = 0,
    attention_dropout: float = 0.0,
    hidden_size: int = 32,
):
    """A model of two layers; the same weights for the same seed."""
    from transformers import (
        DeepseekV3Config,
        DeepseekV3ForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    shape = {
        "vocab_size": VOCABULARY_SIZE, "hidden_size": hidden_size, "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512,
        "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "attn_implementation": attn_implementation, "attention_dropout": attention_dropout,
    }  # fmt: skip
    mixture = {
        "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "q_lora_rank": None, "kv_lora_rank": 32,
        "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16,
    }  # fmt: skip
    torch.manual_seed(seed)
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape))
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape))
    model = DeepseekV3ForCausalLM(DeepseekV3Config(**shape, **mixture))
    model.set_experts_implementation("eager")
    return model


def small_tokenizer():
    """Pad, begin and end at the ids of the tiny models; training needs no more of a tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def random_document(rng: random.Random, key: str, length: int, num_masked_tokens: int) -> Document:
    return Document(key, tuple(rng.randrange(3, VOCABULARY_SIZE) for _ in range(length)), num_masked_tokens)


def build_documents(count: int, *, seed: int = 0, shortest: int = 4, longest: int = 40) -> list[Document]:
    """Documents whose lengths and shares of trained tokens differ widely."""
    rng = random.Random(seed)
    lengths = [rng.randint(shortest, longest) for _ in range(count)]
    return [random_document(rng, f"d{at}", length, rng.randint(1, length - 2)) for at, length in enumerate(lengths)]


def build_settings(**changes: object) -> Training:
    """Training settings; a change replaces a default."""
    settings: dict[str, object] = {
        "learning_rate": 1e-2, "num_train_epochs": 1, "max_length": 64, "warmup_fraction": 0.0,
        "rows_per_micro_batch": 1, "gradient_accumulation_steps": 2, "save_every_steps": 2,
    }  # fmt: skip
    return Training(**{**settings, **changes})


def build_card(folder: Path) -> StudentCard:
    """A Qwen2 student whose weights are in `folder`."""
    data = {
        "kind": "student", "name": "small", "title": "Small", "model": str(folder), "architecture": "qwen2",
        "parameters": 50_000, "context_tokens": 256, "licence": "apache-2.0", "chat_template": "model",
        "lora_target_modules": ["q_proj", "v_proj"],
        "training": {"learning_rate": 1e-3, "epochs": 1, "max_length": 96},
        "sources": [{"url": "https://example.org", "what": "it", "retrieved": date(2026, 1, 1)}],
    }  # fmt: skip
    return StudentCard.from_data(data, folder / "card.yaml")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_card() -> Callable:
    return build_card


@pytest.fixture(scope="session")
def make_model() -> Callable:
    return build_model


@pytest.fixture(scope="session")
def make_documents() -> Callable:
    return build_documents


@pytest.fixture(scope="session")
def make_settings() -> Callable:
    return build_settings


@pytest.fixture(scope="session")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="session")
def world_tokenizer():
    """The embedded pair's own, with its chat template."""
    from distill.embedded.tokenizer import build_tokenizer

    return build_tokenizer()
