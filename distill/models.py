"""Opens a model by what a user writes: a card's name, a checkpoint folder, or an address that serves it.

    engine = open_engine("runs/mine/student")
    engine = open_engine("r1-distill-qwen-7b", base_url="http://localhost:8000/v1")

A model need not reason: a base model is measured as it is.
Not covered: a recipe's own models (`distill/run.py`), and samples in a ledger (`distill/gate/contestant.py`).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from distill import catalog
from distill.cards import R1_MAX_NEW_TOKENS, ReasoningFormat, load_student, load_teacher
from distill.errors import CatalogError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from distill.engines.endpoint import EndpointEngine
    from distill.engines.local import LocalEngine
    from distill.recipes import Endpoint
    from distill.records import SamplingParams

PROMPT_TOKENS = 2048
"""Left for the prompt where the context is what limits a completion."""
_THINKING = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)


def open_engine(
    model: str | None,
    *,
    base_url: str | None = None,
    endpoint: Endpoint | None = None,
    params: SamplingParams | None = None,
    batch_size: int = 128,
) -> LocalEngine | EndpointEngine:
    """The engine of a model; at a URL, None is the only model that the server has.

    Raises: CatalogError, ConfigError, TeacherError, InfrastructureError.
    """
    if base_url is not None:
        return _served(model, base_url, endpoint, params)
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            f"{model}: a model that is loaded here needs torch, which is not installed. Install the whole toolkit, "
            "name an address that serves the model (--base-url), or a ledger of its samples (runs/x/ledger.db)."
        )
    if model is None:
        raise ConfigError("a model is needed: a card's name or a checkpoint folder, or --base-url.")
    return _local(model, batch_size)


def reasoning_of(model: str | None) -> ReasoningFormat:
    """How a model marks its thoughts: a teacher's card says it, others are taken to use <think>."""
    return load_teacher(model).reasoning if model in catalog.names("teachers") else _THINKING


def longest_completion(engine: LocalEngine | EndpointEngine) -> int:
    """R1's 32,768 tokens, or what the model's context leaves beside a prompt: all but 2,048 tokens, at least half."""
    return min(R1_MAX_NEW_TOKENS, max(engine.context_tokens // 2, engine.context_tokens - PROMPT_TOKENS))


def local_template(name: str) -> Callable[[str], str] | None:
    """The chat template of a card whose model lies here; None where it would have to be fetched, or is not known."""
    if name in catalog.names("teachers"):
        location = load_teacher(name).model_location
    elif name in catalog.names("students"):
        location = load_student(name).model_location
    else:
        return None
    if not Path(location).is_dir() or importlib.util.find_spec("transformers") is None:
        return None
    from distill.engines.local import template_renderer

    return template_renderer(location)


def _served(
    model: str | None, base_url: str, settings: Endpoint | None, params: SamplingParams | None
) -> EndpointEngine:
    from distill.engines.endpoint import EndpointEngine
    from distill.recipes import Endpoint

    name, card_model, served = None, "", model
    if model in catalog.names("teachers"):
        teacher = load_teacher(model)
        name, card_model, served = teacher.name, teacher.model, None
    elif model in catalog.names("students"):
        student = load_student(model)
        name, card_model, served = student.name, student.model, None
    engine = EndpointEngine.open(
        [base_url],
        name=name,
        served=served,
        card_model=card_model,
        reasoning=reasoning_of(model),
        settings=settings or Endpoint(),
        params=params,
        require_reasoning=False,
    )
    for report in engine.probes:
        print(report, file=sys.stderr, flush=True)
    return engine


def _local(model: str, batch_size: int) -> LocalEngine:
    from distill.engines.local import LocalEngine

    if Path(model).is_dir():
        return LocalEngine.open(model, name=Path(model).name, reasoning=_THINKING, batch_size=batch_size)
    if model not in [*catalog.names("teachers"), *catalog.names("students")] and not Path(model).exists():
        hint = did_you_mean(model, [*catalog.names("teachers"), *catalog.names("students")])
        raise CatalogError(
            f"model '{model}': there is no such folder, and no card of that name{hint or '.'} Give a checkpoint "
            "folder, a ledger, http://HOST:PORT/v1, or a name that `distill list students` or `teachers` shows."
        )
    card = load_teacher(model) if model in catalog.names("teachers") else load_student(model)
    return LocalEngine.open(
        card.model_location,
        name=card.name,
        reasoning=reasoning_of(model),
        revision=card.revision,
        batch_size=batch_size,
    )
