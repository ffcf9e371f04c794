"""An engine that answers from a script: real requests in, real samples out, no model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

import pytest

from distill import catalog
from distill.engines.base import sample_of
from distill.engines.reasoning import split_reasoning
from distill.records import Sample, SampleRequest

Script = Callable[[str, int], str]
"""(user message, index) -> text; a text that ends in "..." was cut off by the token limit."""


class ScriptedEngine:
    """Renders like a chat template and returns what the script says, last request first."""

    model, can_continue = "scripted", False

    def __init__(self, script: Script, *, fingerprint: str = "scripted-1", lose: int = 0) -> None:
        self.script, self.fingerprint, self.lose = script, fingerprint, lose
        self.requests: list[SampleRequest] = []

    def render(self, user_message: str) -> str:
        return f"<user>{user_message}<assistant>"

    def sample(self, requests: Iterable[SampleRequest]) -> Iterator[Sample]:
        asked = list(requests)
        self.requests.extend(asked)
        for request in reversed(asked[self.lose :]):
            message = request.prompt.removeprefix("<user>").removesuffix("<assistant>")
            text = self.script(message, request.index)
            reasoning, answer = split_reasoning(text)
            yield sample_of(
                self,
                request,
                text=text,
                reasoning=reasoning,
                answer=answer,
                prompt_tokens=len(request.prompt.split()),
                completion_tokens=len(text.split()),
                finish_reason="length" if text.endswith("...") else "stop",
                seconds=0.0,
            )

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def scripted_engine():
    """The class: tests make engines of it with their own scripts."""
    return ScriptedEngine


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """Nothing here needs the hub, and asking for it where it is away takes many seconds."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def jsonl(tmp_path):
    """Writes rows to a file and gives its path."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def stock_scores():
    """A task's figures from lm-eval alone with a model of plain texts: run(task, file, script, prefill)."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    class Plain(LM):
        def __init__(self, script: Script, prefill: str) -> None:
            super().__init__()
            self.script, self.prefill = script, prefill

        tokenizer_name = "plain"

        def apply_chat_template(self, chat_history, add_generation_prompt=True):
            return f"<user>{chat_history[0]['content']}<assistant>{self.prefill}"

        def generate_until(self, requests, disable_tqdm=False):
            self.settings = [request.args[1] for request in requests]
            prompts = [request.args[0].removesuffix(self.prefill) for request in requests]
            return [self.script(prompt.removeprefix("<user>").removesuffix("<assistant>"), 0) for prompt in prompts]

        def loglikelihood(self, requests):
            raise AssertionError("no task of this toolkit asks for log-likelihoods")

        loglikelihood_rolling = loglikelihood

    def run(task, path, script, prefill=""):
        manager = TaskManager(include_defaults=False, metadata={"task_data": {task: str(path)} if path else {}})
        model = Plain(script, prefill)
        loaded = manager.load([str(catalog.find("tasks", task))])
        found = evaluate(model, loaded, apply_chat_template=True, bootstrap_iters=0)
        assert found is not None
        by_item = {record["doc"]["prompt"]: record["pass@1"] for record in found["samples"][task]}
        return found["results"][task], by_item, model.settings

    return run
