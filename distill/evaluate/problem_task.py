"""The lm-eval task class that task files name: documents are problems, k samples an item, scored by `distill/verify/`.

    class: !function distill.evaluate.problem_task.ProblemTask        # in eval/tasks/NAME.yaml

Works in stock lm-eval too (`lm_eval run --include_path eval/tasks --tasks tiny --model hf ...`); there completions are
plain texts, so they are split at `<think>` here and how they finished is not known. For stock lm-eval a task carries
R1's sampling settings: lm-eval's own (256 new tokens, a stop at the first blank line, greedy, all but the first repeat
thrown away) would ruin reasoning. An evaluation of this toolkit samples with its own settings and does not read these.
Not covered in stock lm-eval: markers other than `<think>`; thoughts that it has stripped itself (`think_end_token`).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask

from distill.engines.reasoning import split_reasoning
from distill.evaluate.documents import document_of, problem_of
from distill.evaluate.lm import Completion
from distill.evaluate.metrics import cons_at_k, pass_at_k
from distill.evaluate.observation import Observation
from distill.evaluate.result import VOTING
from distill.evaluate.tasks import read_task
from distill.records import Problem, Sample, Verdict
from distill.verify.base import verifier, verify

# cons@k is by text here: comparing what answers mean needs workers with time limits (`EvalResult` votes by meaning).
METRICS = ("pass@1", "pass@k", "cons@k", "truncation_rate", "no_answer_rate", "undecided_rate")


def keep_all(responses: Any, documents: Any) -> Any:
    """Filter that keeps all k completions of an item; lm-eval's own default keeps the first."""
    return responses


THOUGHT_OPENS = "<think>"

R1_GENERATION: dict[str, Any] = {
    "until": [],
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 0,
    "max_gen_toks": 32768,
}
"""DeepSeek-R1, https://arxiv.org/abs/2501.12948v1, section 3: 32,768 tokens, temperature 0.6, top-p 0.95. It names no
top-k; transformers would take 50 where none is given (generation/configuration_utils.py), and 0 is off."""

SETTINGS: dict[str, Any] = {
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "prompt",
    "doc_to_target": "answer",
    "generation_kwargs": R1_GENERATION,
    "filter_list": [{"name": "all", "filter": [{"function": "custom", "filter_fn": keep_all}]}],
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": not name.endswith("_rate")} for name in METRICS
    ],
}


class ProblemTask(ConfigurableTask):
    """A task whose documents are problems."""

    def __init__(self, config: dict[str, Any]) -> None:
        given = {key: value for key, value in config.items() if key != "class"}
        generation = {**R1_GENERATION, **(given.pop("generation_kwargs", None) or {})}
        super().__init__(config={**SETTINGS, "process_results": results_of, **given, "generation_kwargs": generation})

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        metadata = self.config.metadata or {}
        task = read_task(Path(metadata["config_source"]))
        problems = task.problems((metadata.get("task_data") or {}).get(task.name))
        prepare(problems)
        self.dataset = {"test": datasets.Dataset.from_list([document_of(problem) for problem in problems])}

    def build_all_requests(self, **kwargs: Any) -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar of its own, over within a second
            super().build_all_requests(**kwargs)

    def process_results(self, doc: dict[str, Any], results: Sequence[Sequence[str]]) -> dict[str, float]:
        """As `results_of`. Later R1 templates end the prompt with `<think>`: its completions open with the thought."""
        prompt = self.instances[0].args[0] if self.instances else ""
        return results_of(doc, results, opened_by_prompt=prompt.rstrip().endswith(THOUGHT_OPENS))


def prepare(problems: Sequence[Problem]) -> None:
    """Load each verifier once, so that one that cannot work here is known before a token is paid for.

    Raises: SandboxUnavailable where code cannot be locked in; ProblemError where a library or a gold answer is missing.
    """
    for problem in {problem.verifier: problem for problem in reversed(problems)}.values():
        verifier(problem.verifier).prepare(problem)


def results_of(
    document: dict[str, Any], results: Sequence[Sequence[str]], *, opened_by_prompt: bool = False
) -> dict[str, float]:
    """lm-eval's metrics of one item from its k completions."""
    problem = problem_of(document)
    assert problem is not None, "a document of ProblemTask holds its problem"
    verdicts = [_scored(problem, completion, opened_by_prompt) for completion in results[0]]
    outcomes = [verdict.outcome if verdict is not None else None for verdict in verdicts]
    k, correct = len(outcomes), outcomes.count("correct")
    answers = [found.extracted if found is not None and found.outcome in VOTING else None for found in verdicts]
    return {
        "pass@1": correct / k,
        "pass@k": pass_at_k(k, correct, k),
        "cons@k": cons_at_k(answers, [outcome == "correct" for outcome in outcomes]),
        "truncation_rate": outcomes.count("truncated") / k,
        "no_answer_rate": outcomes.count("no_answer") / k,
        "undecided_rate": outcomes.count("undecided") / k,
    }


def _scored(problem: Problem, completion: str, opened_by_prompt: bool) -> Verdict | Observation | None:
    """Whatever says how a completion was scored."""
    if isinstance(completion, Completion) and completion.seen is not None:
        return completion.seen
    return verdict_of(problem, completion, opened_by_prompt)


def verdict_of(problem: Problem, completion: str, opened_by_prompt: bool = False) -> Verdict | None:
    """The verdict a completion carries, or a new one; None where there is no sample."""
    if isinstance(completion, Completion):
        if completion.verdict is not None or completion.sample is None:
            return completion.verdict
        return verify(problem, completion.sample)
    return verify(problem, sample_of_text(problem, completion, opened_by_prompt))


def sample_of_text(problem: Problem, text: str, opened_by_prompt: bool = False) -> Sample:
    """A text of another's model class as a sample, split at the thought; how it finished is taken to be "stop"."""
    reasoning, answer = split_reasoning(text, opened_by_prompt=opened_by_prompt)
    return Sample(
        key="",
        model="",
        model_fingerprint="",
        problem_id=problem.id,
        prompt_hash="",
        index=0,
        seed=0,
        params={},
        text=text,
        reasoning=reasoning,
        answer=answer,
        prompt_tokens=0,
        completion_tokens=0,
        finish_reason="stop",
        seconds=0.0,
        cost_usd=None,
        created_at="",
    )
