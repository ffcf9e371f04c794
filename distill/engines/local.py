"""Samples from a transformers model in this process: the engine of the embedded pair, and of one-GPU evaluation.

    engine = LocalEngine.open("teachers/tiny", name="tiny", reasoning=card.reasoning, batch_size=128)

Covers any causal decoder of transformers with full attention, on CPU or one accelerator. For speed on large models
use a served endpoint. Sampling is seeded per request; see `distill/engines/decode.py` for what that does and does not
promise.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.engines.base import sample_of
from distill.engines.reasoning import split_reasoning
from distill.errors import TeacherError
from distill.records import Sample, SampleRequest, stable_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill.cards import ReasoningFormat
    from distill.engines.decode import Row

GENERIC_TOKENIZER_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")


class LocalEngine:
    """An engine over a loaded model and tokenizer."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        fingerprint: str,
        reasoning: ReasoningFormat,
        batch_size: int = 128,
    ):
        self.model, self.fingerprint = name, fingerprint
        self.can_continue = False
        self._network, self._tokenizer = model.eval(), tokenizer
        self._reasoning, self._batch_size = reasoning, batch_size

    @classmethod
    def open(
        cls,
        location: str | Path,
        *,
        name: str,
        reasoning: ReasoningFormat,
        revision: str | None = None,
        batch_size: int = 128,
        dtype: str = "auto",
    ) -> LocalEngine:
        """Load a folder or a hub name. Raises: TeacherError where weights, tokenizer or template are missing."""
        model, tokenizer = load_model(location, name=name, revision=revision, dtype=dtype)
        fingerprint = model_fingerprint(location, model, tokenizer)
        return cls(model, tokenizer, name=name, fingerprint=fingerprint, reasoning=reasoning, batch_size=batch_size)

    def render(self, user_message: str) -> str:
        return render_prompt(self._tokenizer, user_message)

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Sample | None]:
        """Samples as they finish. A request's `prefix` is not used: each completion starts anew, from its own seed."""
        from distill.engines.decode import Batch, decode

        batch = Batch(self._network, self._eos_ids(), self._tokenizer.pad_token_id or 0)
        waiting = ((request, self._prompt_ids(request)) if request else None for request in requests)
        for row in decode(batch, waiting, self._batch_size):
            yield self._sample_of(row) if row else None

    @property
    def context_tokens(self) -> int:
        """Prompt and completion together may have this many tokens."""
        return int(getattr(self._network.config, "max_position_embeddings", None) or 2048)

    def close(self) -> None:
        self.__dict__.pop("_network", None)  # closing twice is allowed

    def first_tokens(self, text: str, num_tokens: int) -> str:
        """The beginning of a text that its first `num_tokens` tokens make; all of it where it has no more.

        Tokens as the tokenizer reads the text back, which may be others than were drawn. A character that ends in a
        later token is not in it.
        """
        read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = [start for start, _ in read["offset_mapping"]]
        return text if len(starts) <= num_tokens else text[: starts[num_tokens]]

    def _eos_ids(self) -> frozenset[int]:
        """The generation configuration's, and the tokenizer's own: training ends every document with that one."""
        configured = self._network.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in (*ids, self._tokenizer.eos_token_id) if token is not None)

    def _prompt_ids(self, request: SampleRequest) -> list[int]:
        ids = self._tokenizer(request.prompt, add_special_tokens=False)["input_ids"]
        context = self.context_tokens
        if len(ids) + request.params.max_new_tokens > context:
            raise TeacherError(
                f"{self.model}: problem {request.problem_id} needs {len(ids)} prompt tokens plus max_new_tokens="
                f"{request.params.max_new_tokens}, the model's context is {context}; lower max_new_tokens."
            )
        return list(ids)

    def _sample_of(self, row: Row) -> Sample:
        request = row.request
        text_ids = row.token_ids[:-1] if row.finish_reason == "stop" else row.token_ids
        text = self._tokenizer.decode(text_ids, skip_special_tokens=True)
        reasoning, answer = split_reasoning(
            text,
            open_marker=self._reasoning.open_marker,
            close_marker=self._reasoning.close_marker,
            opened_by_prompt=self._reasoning.opened_by_prompt,
        )
        return sample_of(
            self,
            request,
            text=text,
            reasoning=reasoning,
            answer=answer,
            prompt_tokens=len(row.prompt_ids),
            completion_tokens=len(row.token_ids),
            finish_reason="stop" if row.finish_reason == "stop" else "length",
            seconds=time.monotonic() - row.started,
        )


def render_prompt(tokenizer: PreTrainedTokenizerBase, user_message: str) -> str:
    """The text a model reads for one user message, generation prompt included."""
    if not tokenizer.chat_template:
        raise TeacherError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; set `chat_template: r1` in the "
            "student card, or add a template to the tokenizer."
        )
    messages = [{"role": "user", "content": user_message}]
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def template_renderer(location: str | Path, *, revision: str | None = None) -> Callable[[str], str]:
    """`render_prompt` of a model's tokenizer, without loading its weights."""
    tokenizer = load_tokenizer(location, revision=revision)
    return lambda user_message: render_prompt(tokenizer, user_message)


def load_tokenizer(location: str | Path, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer as tokenizer.json has it.

    For some architectures, qwen2 among them, AutoTokenizer of transformers 5 puts the architecture's own class in the
    place of a generic one (models/auto/tokenization_auto.py, MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS). That class
    brings its own pre-tokenizer, so other tokens come out than the model was trained on. A declared generic one stays.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    declared = get_tokenizer_config(str(location), revision=revision).get("tokenizer_class")
    loader = PreTrainedTokenizerFast if declared in GENERIC_TOKENIZER_CLASSES else AutoTokenizer
    return loader.from_pretrained(str(location), revision=revision)


def load_model(
    location: str | Path,
    *,
    name: str,
    revision: str | None = None,
    dtype: str = "auto",
    attn_implementation: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a folder or a hub name, on the accelerator where there is one.

    Only safetensors are read. Raises: TeacherError that names what is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar per weight file says nothing that a user waits for
    if Path(location).is_dir() and not list(Path(location).glob("*.safetensors")):
        raise TeacherError(
            f"{name}: no *.safetensors file in {location}; put the weights there or mend the card's `model`."
        )
    extra: dict[str, Any] = {"attn_implementation": attn_implementation} if attn_implementation else {}
    try:
        tokenizer = load_tokenizer(location, revision=revision)
        model, report = AutoModelForCausalLM.from_pretrained(
            str(location), revision=revision, dtype=dtype, use_safetensors=True, output_loading_info=True, **extra
        )
    except Exception as error:  # torn files come as exceptions of safetensors and tokenizers that share no base
        reason = " ".join(str(error).split())[:300]
        raise TeacherError(f"{name}: cannot be loaded from {location}: {reason}") from error
    if missing := sorted(report["missing_keys"]):
        raise TeacherError(
            f"{name}: {location} lacks the weights of {len(missing)} parameters its config.json asks for, "
            f"{missing[0]} first; put the whole model there."
        )
    if not torch.cuda.is_available():
        return model.float(), tokenizer
    return model.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}"), tokenizer  # one accelerator a process of torchrun


def model_fingerprint(location: str | Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what decides a completion: weights, configuration, tokenizer and template.

    A hub model is named by its commit; a folder by the bytes of its weight files.
    """
    commit = getattr(model.config, "_commit_hash", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    weights = commit or [_file_digest(path) for path in sorted(Path(location).glob("*.safetensors"))]
    configuration = {
        key: value
        for key, value in model.config.to_diff_dict().items()
        if key not in ("_name_or_path", "transformers_version")
    }
    return stable_hash(
        weights,
        stable_hash(str(sorted(configuration.items()))),
        stable_hash(sorted(tokenizer.get_vocab().items()), str(getattr(backend, "pre_tokenizer", None))),
        str(tokenizer.chat_template),
        length=16,
    )


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
