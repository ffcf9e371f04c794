"""Evaluations through the real lm-eval, with an engine that answers from a script.

pytest tests/evaluate/test_runner.py
"""

import json

import pytest

from distill.errors import CatalogError, ConfigError, ProblemError
from distill.evaluate.result import EvalResult
from distill.evaluate.runner import evaluate
from distill.evaluate.tasks import held_out_problems
from distill.records import SamplingParams
from distill.store.ledger import Ledger

PARAMS = SamplingParams(temperature=0.6, top_p=0.95, max_new_tokens=64)
ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(1, 5)]
TASK = """
task: sums
class: !function distill.evaluate.problem_task.ProblemTask
metadata:
  version: 2.0
  problems:
    - jsonl: {path: sums.jsonl, prompt: question, answer: answer, domain: math, licence: MIT, verifier: exact}
"""


@pytest.fixture
def tasks(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "sums.yaml").write_text(TASK)
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        yield ledger


def script(message: str, index: int) -> str:
    """Four items of four samples: all right; two right, two votes wrong; one right, three cut off; none right."""
    number = int(message.split()[2])
    right, wrong, cut = (
        rf"<think>{index} a</think>\boxed{{{2 * number}}}",
        r"<think>b</think>\boxed{99}",
        "<think>on and...",
    )
    silent = "<think>c</think>I do not know.\nSorry."
    return {
        1: [right, right, right, right],
        2: [right, right, wrong, wrong],
        3: [cut, cut, right, cut],
        4: [wrong, wrong, silent, silent],
    }[number][index]


def run(engine, ledger, folder, **changes):
    settings = {
        "samples_per_item": 4,
        "params": PARAMS,
        "run_seed": 3,
        "extra_task_dirs": [folder],
        "verify_workers": 1,
    }
    return evaluate(["sums"], engine, ledger, **(settings | changes))


def test_figures_equal_those_by_hand_and_lm_evals_own(scripted_engine, tasks, ledger):
    result = run(scripted_engine(script), ledger, tasks)
    scores = result.tasks["sums"].scores
    assert (scores["n_items"], scores["n_samples"], scores["k"]) == (4, 16, 4)
    assert scores["pass@1"] == pytest.approx((4 + 2 + 1 + 0) / 16)
    assert scores["pass@k"] == pytest.approx(3 / 4)
    assert scores["pass_at"]["2"] == pytest.approx((1 + (1 - 1 / 6) + (1 - 3 / 6) + 0) / 4)
    assert scores["cons@k"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert scores["truncation_rate"] == pytest.approx(3 / 16)
    assert scores["no_answer_rate"] == pytest.approx(2 / 16)
    assert (scores["unclosed_rate"], scores["unanswered_rate"], scores["extractor_disagreement_rate"]) == (0, 0, 0)
    own = result.lm_eval["results"]["sums"]
    for name in ("pass@1", "pass@k", "cons@k", "truncation_rate", "no_answer_rate", "undecided_rate"):
        assert own[f"{name},all"] == pytest.approx(scores[name])


def test_clones_are_numbered_and_read_exactly_the_rendered_prompt(scripted_engine, tasks, ledger):
    engine = scripted_engine(script)
    run(engine, ledger, tasks)
    by_prompt: dict[str, list] = {}
    for request in engine.requests:
        by_prompt.setdefault(request.prompt, []).append(request)
    assert sorted(by_prompt) == sorted(f"<user>{row['question']}<assistant>" for row in ROWS)
    for requests in by_prompt.values():
        assert [request.index for request in requests] == [0, 1, 2, 3]
        assert len({request.seed for request in requests}) == 4
        assert {request.run_seed for request in requests} == {3} and {request.params for request in requests} == {
            PARAMS
        }


def test_a_second_evaluation_draws_nothing_and_finds_the_same(scripted_engine, tasks, ledger):
    first = run(scripted_engine(script), ledger, tasks)
    engine = scripted_engine(script)
    second = run(engine, ledger, tasks)
    assert (first.samples_drawn, first.samples_reused) == (16, 0)
    assert (second.samples_drawn, second.samples_reused) == (0, 16) and engine.requests == []
    assert second.tasks == first.tasks
    assert ledger.count() == 16 and ledger.count_verdicts() == 16


def test_more_samples_are_added_to_those_there_are(scripted_engine, tasks, ledger):
    run(scripted_engine(script), ledger, tasks, samples_per_item=2)
    more = run(scripted_engine(script), ledger, tasks)
    assert (more.samples_drawn, more.samples_reused) == (8, 8)
    fresh = run(scripted_engine(script, fingerprint="scripted-2"), ledger, tasks)
    assert fresh.samples_drawn == 16


def test_an_interrupted_evaluation_goes_on_where_it_stopped(scripted_engine, tasks, ledger):
    def dies_on_the_first_item(message, index):
        if message == ROWS[0]["question"]:  # sampled last
            raise KeyboardInterrupt
        return script(message, index % 4)

    with pytest.raises(KeyboardInterrupt):
        run(scripted_engine(dies_on_the_first_item), ledger, tasks, samples_per_item=12)
    known = ledger.count()
    assert known >= 32
    result = run(scripted_engine(lambda message, index: script(message, index % 4)), ledger, tasks, samples_per_item=12)
    assert (result.samples_drawn, result.samples_reused) == (48 - known, known)
    assert result.tasks["sums"].scores["pass@1"] == pytest.approx(7 / 16)


def test_lost_samples_are_failures_that_are_counted(scripted_engine, tasks, ledger):
    task = run(scripted_engine(script, lose=1), ledger, tasks).tasks["sums"]
    assert task.scores["n_samples"] == 15
    assert task.scores["pass@1"] == pytest.approx(6 / 16)


def test_what_validity_needs_is_recorded(scripted_engine, tasks, ledger):
    """A thought that never closes; a box that is taken back; all samples of an item have one prompt and parameters."""
    unclosed = r"<think>the box holds \boxed{2}"
    taken_back = r"<think>a</think>\boxed{{{}}}. No, the answer is {}."

    def speaks(message, index):
        number = int(message.split()[2])
        return unclosed if number == 1 else taken_back.format(2 * number, index)

    task = run(scripted_engine(speaks), ledger, tasks).tasks["sums"]
    assert task.scores["unclosed_rate"] == 4 / 16 and task.scores["extractor_disagreement_rate"] == 1.0
    assert [item.num_reread for item in task.items] == [0, 4, 4, 4]
    assert all(len(item.prompt_hashes) == len(item.params_hashes) == 1 for item in task.items)
    assert len({item.params_hashes for item in task.items}) == 1
    assert len({item.first_text_hash for item in task.items}) == 4


def test_save_and_load_keep_everything(scripted_engine, tasks, ledger, tmp_path):
    result = run(scripted_engine(script), ledger, tasks)
    result.save(tmp_path / "eval" / "results.json")
    again = EvalResult.load(tmp_path / "eval" / "results.json")
    assert again == result and again.to_dict() == result.to_dict()
    assert "0.438" in again._repr_html_() and "sums" in again._repr_html_()


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 2}', '{"format_version": 1}'])
def test_a_file_that_is_no_result_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ConfigError, match=r"r\.json"):
        EvalResult.load(tmp_path / "r.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        EvalResult.load(tmp_path / "none.json")


def test_the_tiny_task_scores_with_reasoning_gym(scripted_engine, ledger):
    gold = {problem.prompt: problem.answer for problem in held_out_problems(["tiny"])}
    engine = scripted_engine(lambda message, index: rf"<think>x</think>\boxed{{{gold[message] if index else 'no'}}}")
    result = evaluate(["tiny"], engine, ledger, samples_per_item=2, limit=12, params=PARAMS, run_seed=0)
    task = result.tasks["tiny"]
    assert task.n_items_in_task == 299 and len(task.items) == 12
    assert {name: scores["pass@1"] for name, scores in task.families.items()} == dict.fromkeys(
        ["products", "chain_sum", "leg_counting", "spell_backward", "gcd", "count_bits"], 0.5
    )


def test_a_hub_task_reads_a_local_file_instead(scripted_engine, tmp_path, ledger):
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"question": "Tom has 3 apples and buys 4.", "answer": "3 + 4 = 7\n#### 1,007"}) + "\n")
    engine = scripted_engine(lambda message, index: r"<think>x</think>The answer is \boxed{1007}.")
    result = evaluate(
        ["gsm8k"], engine, ledger, samples_per_item=1, params=PARAMS, run_seed=0, task_data={"gsm8k": path}
    )
    assert result.tasks["gsm8k"].scores["pass@1"] == 1.0
    assert engine.requests[0].prompt.startswith("<user>Tom has 3 apples and buys 4.\n\nPlease reason step by step")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_per_item": 0}, "samples_per_item"),
        ({"limit": 0}, "limit"),
        ({"params": SamplingParams(0.0, 1.0, 8)}, "greedy samples are copies"),
        ({"task_data": {"sumz": "x.jsonl"}}, "did you mean 'sums'"),
    ],
)
def test_settings_that_cannot_be_are_refused(scripted_engine, tasks, ledger, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(scripted_engine(script), ledger, tasks, **changes)


def test_unknown_task_gets_the_nearest_name(scripted_engine, ledger):
    with pytest.raises(CatalogError, match="did you mean 'math500'"):
        evaluate(["math50"], scripted_engine(script), ledger, samples_per_item=1, params=PARAMS, run_seed=0)


def test_a_missing_data_file_is_one_clear_error(scripted_engine, tasks, ledger):
    with pytest.raises(ProblemError, match=r"gone\.jsonl"):
        run(scripted_engine(script), ledger, tasks, task_data={"sums": "gone.jsonl"})
