r"""The task class outside this toolkit's runner: in stock lm-eval, with a model that returns plain texts, and from
its command line with the embedded student.

pytest tests/evaluate/test_problem_task.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from distill import catalog
from distill.cards import ReasoningFormat
from distill.engines.local import LocalEngine
from distill.evaluate.documents import document_of, problem_of
from distill.evaluate.runner import evaluate as evaluate_here
from distill.evaluate.tasks import held_out_problems
from distill.records import SamplingParams
from distill.store.ledger import Ledger

THINKING = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)
ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.slow
def test_the_command_line_of_lm_eval_scores_the_embedded_student(tmp_path, jsonl):
    """The student answers 1 to most greatest common divisors; AIME's file stands in by `--metadata`."""
    asked = "Find the Greatest Common Divisor (GCD) of these numbers: {}, 96. Give only the GCD as your final answer."
    path = jsonl(
        "aime.jsonl", [{"problem": asked.format(85), "answer": "001"}, {"problem": asked.format(12), "answer": "12"}]
    )
    command = [sys.executable, "-m", "lm_eval", "run", "--include_path", "eval/tasks", "--tasks", "tiny", "aime24"]
    command += ["--model", "hf", "--model_args", "pretrained=students/tiny,tokenizer=teachers/tiny,dtype=float32"]
    command += ["--device", "cpu", "--batch_size", "8", "--apply_chat_template", "--limit", "12", "--log_samples"]
    command += ["--gen_kwargs", "do_sample=False,temperature=0,max_gen_toks=64"]
    command += ["--metadata", json.dumps({"task_data": {"aime24": str(path)}}), "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(file.read_text())["results"]
    assert results["aime24"]["pass@1,all"] == 0.5
    expected = evaluate_tiny(tmp_path)
    assert results["tiny"]["pass@1,all"] == pytest.approx(expected["pass@1"]) and 0 < expected["pass@1"] < 1
    assert results["tiny"]["no_answer_rate,all"] == pytest.approx(expected["no_answer_rate"])


def evaluate_tiny(folder):
    """The same twelve items, greedy, by this toolkit's own engine."""
    engine = LocalEngine.open(catalog.find("students", "tiny").parent, name="tiny", reasoning=THINKING, dtype="float32")
    params = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=64)
    with Ledger.open(folder / "ledger.db", create=True) as ledger:
        result = evaluate_here(["tiny"], engine, ledger, samples_per_item=1, limit=12, params=params, run_seed=0)
    return result.tasks["tiny"].scores
