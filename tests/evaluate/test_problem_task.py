r"""The task class outside this toolkit's runner: in stock lm-eval, with a model that returns plain texts.

pytest tests/evaluate/test_problem_task.py
"""

import json

import pytest
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from distill.evaluate.documents import document_of, problem_of
from distill.evaluate.tasks import held_out_problems

TASK = """task: sums
class: !function distill.evaluate.problem_task.ProblemTask
metadata:
  version: 2.0
  problems:
    - jsonl: {path: sums.jsonl, prompt: question, answer: answer, domain: math, licence: MIT, verifier: exact}
"""


class PlainLM(LM):
    """Right on the first of every three repeats, cut off in its thought on the second, silent on the third."""

    def generate_until(self, requests):
        texts = [
            r"<think>1 and 1</think>\boxed{2}",
            r"<think>is it \boxed{2}, or",
            "<think>no</think>I give up.\nSorry.",
        ]
        assert all(request.args[1]["until"] == [] for request in requests)
        return [texts[place % 3] for place in range(len(requests))]

    def loglikelihood(self, requests):
        raise AssertionError

    loglikelihood_rolling = loglikelihood


def test_all_repeats_count_and_an_unclosed_thought_is_no_answer(tmp_path):
    (tmp_path / "sums.yaml").write_text(TASK)
    (tmp_path / "sums.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "2"}) + "\n")
    loaded = TaskManager(include_path=str(tmp_path), include_defaults=False).load(["sums"])
    loaded["tasks"]["sums"].set_config("repeats", 3)
    found = evaluate(PlainLM(), loaded, bootstrap_iters=0)["results"]["sums"]
    assert found["pass@1,all"] == pytest.approx(1 / 3)
    assert found["pass@k,all"] == found["cons@k,all"] == 1.0
    assert found["no_answer_rate,all"] == pytest.approx(2 / 3)
    assert found["undecided_rate,all"] == 0.0


def test_a_problem_survives_the_way_through_a_document():
    for problem in held_out_problems(["tiny"])[:6]:
        assert problem_of(document_of(problem)) == problem
    assert problem_of({"question": "of another task"}) is None
