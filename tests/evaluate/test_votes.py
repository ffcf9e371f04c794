"""pytest tests/evaluate/test_votes.py"""

from itertools import combinations, permutations

import numpy as np
import pytest

from distill.evaluate import votes
from distill.evaluate.metrics import cons_at_k, pass_at_k, pass_noise
from distill.evaluate.result import EvalResult
from distill.evaluate.runner import evaluate
from distill.evaluate.votes import classes_of, consensus_curve, consensus_noise
from distill.records import Problem, SamplingParams
from distill.store.ledger import Ledger
from distill.verify.classes import compare_in
from distill.verify.pool import VerifierPool


def problem(verifier: str, answer: str = "1/2") -> Problem:
    return Problem("p", "What?", answer, verifier, "f", "math", "s", "mit", {"family": "gcd", "entry": {}})


def by_enumeration(labels, correct, k):
    subsets = combinations(range(len(labels)), k)
    found = [cons_at_k([labels[at] for at in chosen], [correct[at] for at in chosen]) for chosen in subsets]
    return sum(found) / len(found)


LABELS = [
    [0, 0, 0, 1, 1, 2, None, None],
    [0, 0, 1, 1, 2, 2, 3, 3],  # ties everywhere
    [0, 1, 2, 3, 4, 5, 6, 7],  # nobody agrees
    [None, None, None, 0, None, None, None, None],
    [1, 1, 1, 1, 1, 0, 0, None],  # the majority is wrong
]


@pytest.mark.parametrize("labels", LABELS)
def test_cons_at_k_is_the_mean_over_all_subsets(labels):
    correct = [label == 0 for label in labels]
    found = consensus_curve(labels, correct, range(1, 9))
    assert found == pytest.approx({k: by_enumeration(labels, correct, k) for k in range(1, 9)}, abs=1e-12)


def test_of_all_samples_it_is_the_plain_vote_and_of_one_it_is_accuracy():
    labels, correct = LABELS[0], [label == 0 for label in LABELS[0]]
    found = consensus_curve(labels, correct, [1, 8])
    assert found[8] == cons_at_k(labels, correct) == 1.0
    assert found[1] == pytest.approx(3 / 8)


def test_a_class_with_mixed_verdicts_counts_by_its_share():
    assert cons_at_k([0, 0, 0, 1, 1], [True, True, False, True, True]) == pytest.approx(2 / 3)
    found = consensus_curve([0, 0, 0, 1], [True, True, False, False], [4, 1])
    assert found == pytest.approx({4: 2 / 3, 1: 2 / 4})


def test_without_any_answer_it_is_zero_at_every_k():
    assert consensus_curve([None] * 4, [False] * 4, [1, 2, 4]) == {1: 0.0, 2: 0.0, 4: 0.0}
    assert consensus_noise([None] * 4, [False] * 4, 2) == 0.0


def test_random_subsets_agree_with_all_subsets(monkeypatch):
    labels = [0] * 9 + [1] * 7 + [2] * 4 + [3, 4, 5, None]
    correct = [label == 0 for label in labels]
    exact = consensus_curve(labels, correct, [1, 2, 4, 8, 16])
    monkeypatch.setattr(votes, "MOST_EXACT", 10)
    estimated = consensus_curve(labels, correct, [1, 2, 4, 8, 16])
    assert estimated != exact and estimated == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(votes.RANDOM_SUBSETS))


@pytest.mark.parametrize("sizes", [[0], [5], []])
def test_sizes_beyond_the_samples_are_refused(sizes):
    with pytest.raises(ValueError, match="expected 1 to 4"):
        consensus_curve([0, 0, 1, None], [True, True, False, False], sizes)


def test_noise_is_the_variance_of_disjoint_blocks():
    labels = [0, 0, 0, 1, 1, None]
    correct = [label == 0 for label in labels]
    pairs = [
        (cons_at_k(a, [x == 0 for x in a]) - cons_at_k(b, [x == 0 for x in b])) ** 2 / 2
        for a, b in ((order[:2], order[2:4]) for order in permutations(labels))
    ]
    assert consensus_noise(labels, correct, 2) == pytest.approx(np.mean(pairs) / 3, rel=0.2)
    assert consensus_noise([0] * 4, [True] * 4, 2) == 0.0
    with pytest.raises(ValueError, match="needs 8 samples, found 6"):
        consensus_noise(labels, correct, 4)


def test_noise_of_pass_at_k_is_the_variance_of_disjoint_blocks():
    samples = [True, True, False, False, False, False]
    pairs = [(any(order[:2]) - any(order[2:4])) ** 2 / 2 for order in permutations(samples)]
    assert pass_noise(6, 2, 2) == pytest.approx(np.mean(pairs) / 3)
    assert pass_noise(6, 2, 1) == pytest.approx(np.var(samples, ddof=1) / 6)
    assert pass_noise(6, 0, 3) == pass_noise(6, 6, 3) == 0.0


def test_noise_does_not_underestimate_what_reruns_show():
    """The spread of pass@k and cons@k over reruns of an item, beside the variance that each rerun states."""
    chance = np.random.default_rng(5)
    shown, stated = {"pass": [], "cons": []}, {"pass": [], "cons": []}
    for _ in range(400):
        labels = [int(label) for label in chance.choice(4, size=12, p=[0.4, 0.3, 0.2, 0.1])]
        correct = [label == 0 for label in labels]
        shown["pass"].append(pass_at_k(12, sum(correct), 4))
        stated["pass"].append(pass_noise(12, sum(correct), 4))
        shown["cons"].append(consensus_curve(labels, correct, [4])[4])
        stated["cons"].append(consensus_noise(labels, correct, 4))
    for name in ("pass", "cons"):
        assert np.mean(stated[name]) > 0.9 * np.var(shown[name]), name
        assert np.mean(stated[name]) < 3 * np.var(shown[name]), name


def test_answers_that_mean_the_same_are_one_class():
    with VerifierPool(1) as pool:
        found = classes_of(problem("math"), ["2", "0.5", "1/2", None, r"\frac{1}{2}"], compare=compare_in(pool))
    assert found == (1, 0, 0, None, 0)
    assert classes_of(problem("math"), ["0.5", "1/2"]) == (0, 0)
    assert classes_of(problem("exact", "yes"), ["no", "yes", "no"]) == (0, 1, 0)


def test_plain_integers_are_compared_by_value_without_a_library():
    def never(*_):
        raise AssertionError("the library was asked")

    assert classes_of(problem("math", "73"), ["073", "73", "7", "-7"], compare=never) == (0, 0, 1, 2)


def test_an_evaluation_keeps_the_classes_and_votes_by_them(scripted_engine, tmp_path):
    """Through lm-eval: two spellings of the right answer outvote a wrong one that is as frequent as either."""
    (tmp_path / "halves.yaml").write_text(
        "task: halves\nclass: !function distill.evaluate.problem_task.ProblemTask\nmetadata:\n  version: 1.0\n"
        "  problems: [{jsonl: {path: half.jsonl, prompt: q, answer: a, domain: math, licence: MIT, verifier: math}}]\n"
    )
    (tmp_path / "half.jsonl").write_text('{"q": "What is a half?", "a": "1/2"}\n')
    answers = ["0.5", "3", r"\frac{1}{2}"]
    engine = scripted_engine(lambda message, index: rf"<think>{index}</think>\boxed{{{answers[index]}}}")
    with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        result = evaluate(
            ["halves"], engine, ledger, samples_per_item=3, params=SamplingParams(0.6, 0.95, 64), run_seed=3,
            extra_task_dirs=[tmp_path], verify_workers=1,
        )  # fmt: skip
    (item,) = result.tasks["halves"].items
    assert item.answer_classes == item.votes == (0, 1, 0)
    assert result.tasks["halves"].scores["cons@k"] == 1.0
    result.save(tmp_path / "student.json")
    assert EvalResult.load(tmp_path / "student.json").tasks == result.tasks


def test_answers_to_puzzles_are_compared_as_text():
    assert classes_of(problem("gym"), ["b", "a", None, "a"]) == (1, 0, None, 0)
    assert classes_of(problem("gym"), []) == () and classes_of(problem("math"), [None]) == (None,)


def test_a_comparison_over_the_time_limit_is_no_match():
    tower = "9^{9^{9^{9^{9}}}}"
    with VerifierPool(1, timeout_seconds=1.0) as pool:
        assert classes_of(problem("math"), [tower, "7", "7.0"], compare=compare_in(pool)) == (1, 0, 0)
