"""A tiny engine with random weights, which ends at many different lengths; and servers that misbehave on demand."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cards import ReasoningFormat
from distill.engines.local import LocalEngine
from distill.records import SampleRequest, SamplingParams

REASONING = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)
QUESTIONS = ["1+1?", "What is 23 * 45?", "Spell backward: sun", "gcd of 12 and 18, and why it is 6 " * 3, "?"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    from distill.embedded.tokenizer import build_tokenizer

    return build_tokenizer()


def build_model(kind: str, *, context: int = 256, seed: int = 0):
    """Two layers, 32 hidden units; wide initial weights, so that logits differ; one token in sixteen ends a row."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, Qwen2Config, Qwen2ForCausalLM

    shape = {
        "vocab_size": 448, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": context, "tie_word_embeddings": False,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3,
    }  # fmt: skip
    torch.manual_seed(seed)
    if kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **shape))
    else:
        mixture = {
            "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "q_lora_rank": None, "kv_lora_rank": 32,
            "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 8, "num_key_value_heads": 4,
        }  # fmt: skip
        model = DeepseekV3ForCausalLM(DeepseekV3Config(**shape, **mixture))
        model.set_experts_implementation("eager")
    model.generation_config.eos_token_id = [2, *range(7, 448, 16)]
    return model.eval()


@pytest.fixture(scope="session", params=["qwen2", "deepseek_v3"])
def model(request):
    return build_model(request.param)


@pytest.fixture(scope="session")
def make_model():
    return build_model


@pytest.fixture(scope="session")
def qwen2():
    return build_model("qwen2")


@pytest.fixture(scope="session")
def make_engine(tokenizer):
    def make(model, batch_size: int) -> LocalEngine:
        return LocalEngine(model, tokenizer, name="tiny", fingerprint="f0", reasoning=REASONING, batch_size=batch_size)

    return make


@pytest.fixture(scope="session")
def make_requests():
    """`count` requests over questions of very different lengths."""

    def make(
        engine: LocalEngine, count: int, *, temperature: float = 1.0, top_p: float = 0.95, max_new_tokens: int = 48
    ) -> list[SampleRequest]:
        params = SamplingParams(temperature, top_p, max_new_tokens)
        return [
            SampleRequest(f"p{at % 5}", engine.render(QUESTIONS[at % 5]), at // 5, params, 3) for at in range(count)
        ]

    return make


SERVER = Path(__file__).with_name("misbehaving_server.py")


@dataclass
class Server:
    """A running `misbehaving_server.py`."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=data, timeout=30) as reply:
            return json.load(reply)

    def control(self, **settings: Any) -> None:
        self.ask("/control", settings)

    def stats(self) -> dict[str, Any]:
        return self.ask("/stats")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_server():
    """Starts servers, each a process; all are gone after the test."""
    started: list[Server] = []

    def start(**settings: Any) -> Server:
        command = [sys.executable, str(SERVER), json.dumps(settings)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        started.append(Server(process, int(process.stdout.readline())))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def open_endpoint(monkeypatch):
    """An endpoint engine over servers, impatient by default."""
    monkeypatch.setattr("distill.engines.endpoint_retry.FIRST_BACKOFF_SECONDS", 0.05)
    from distill.engines.endpoint import EndpointEngine
    from distill.recipes import Endpoint

    def open_at(*servers: Server, require_reasoning: bool = True, opened_by_prompt: bool = False, **settings: Any):
        impatient = {"idle_seconds": 1.0, "first_token_seconds": 5.0, "give_up_seconds": 8.0}
        given = {"continue_partial": "never", **impatient, **settings}
        reasoning = REASONING.model_copy(update={"opened_by_prompt": opened_by_prompt})
        return EndpointEngine.open(
            [server.url for server in servers], name="t", served=None, reasoning=reasoning,
            settings=Endpoint(**given), params=SamplingParams(0.6, 0.95, 64), require_reasoning=require_reasoning,
        )  # fmt: skip

    return open_at


@pytest.fixture
def ask():
    """Requests for texts, `samples` of each."""

    def make(texts: Sequence[str], samples: int = 1) -> list[SampleRequest]:
        params = SamplingParams(0.6, 0.95, 64)
        return [SampleRequest(f"p{at}", text, i, params, 3) for at, text in enumerate(texts) for i in range(samples)]

    return make
