"""A sequential gate over a real server, a real ledger and lm-eval's own scoring of what was drawn.

pytest tests/gate/test_sequential_gate.py
"""

import json
from dataclasses import replace
from datetime import date

import pytest

from distill.cards import Baseline
from distill.errors import GateError, InfrastructureError
from distill.evaluate.result import EvalResult
from distill.evaluate.tasks import read_tasks
from distill.gate.contestant import Contestant, EngineOpener, evaluated, recorded
from distill.gate.sequential_gate import SequentialGate
from distill.gate.spec import Gate
from distill.records import SamplingParams
from distill.store.ledger import Ledger
from distill.verify.base import verify

PARAMS = SamplingParams(0.6, 0.95, 64)
TASK = """task: sums
class: !function distill.evaluate.problem_task.ProblemTask
metadata:
  version: 1.0
  problems:
    - jsonl: {path: sums.jsonl, prompt: prompt, answer: answer, id: id, family: sums, domain: math, licence: none,
              verifier: math}
"""


def verify_all(pairs):
    return [verify(problem, sample) for problem, sample in pairs]


def spec(*comparisons, **fields):
    given = {"estimand": "benchmark", "budget": {"max_rounds": 12}, **fields}
    return Gate(kind="gate", name="sums", description="d", tasks=["sums"], comparisons=list(comparisons), **given)


@pytest.fixture
def world(tmp_path, start_server, open_at, ledger):
    """A task of sums in files, and models that get the first `num_wrong` of them wrong: the gold answer is another."""

    class World:
        server = start_server()
        path = tmp_path

        def task(self, number=10, num_wrong=0):
            rows = [
                {"id": f"p{at:02d}", "prompt": f"What is {at} + 4?", "answer": str(at + 4 + (at < num_wrong))}
                for at in range(number)
            ]
            (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (tmp_path / "sums.yaml").write_text(TASK)
            (task,) = read_tasks(["sums"], [tmp_path], None)
            return task

        def contestant(self, who="student", into=ledger, **settings):
            engine = open_at(self.server, **settings)
            return Contestant(who, "t", engine.fingerprint, PARAMS, 3, into, opener=EngineOpener(lambda: engine))

        def gate(self, gate, task, contestants, **more):
            given = {"baselines": {}, "verify": verify_all, **more}
            roles = {each.who: each for each in contestants}
            return SequentialGate(
                gate=gate, tasks=[task], problems={"sums": task.problems()}, contestants=roles, **given
            )

    return World()


def test_a_bad_student_fails_after_few_rounds_and_one_more_is_drawn_at_most(world, ledger):
    saved = []
    gate = spec({"against": "constant", "minimum": 0.6}, budget={"max_rounds": 32})
    verdict, results = world.gate(gate, world.task(10, 9), [world.contestant()], save=saved.append).judge()
    (row,) = verdict.comparisons
    assert (verdict.outcome, verdict.stopped_by, verdict.exit_code) == ("FAIL", "verdict", 3)
    assert row.rounds == row.decided_at_round == verdict.samples_per_item < 10
    assert row.student == pytest.approx(0.1) and row.needed == pytest.approx(0.6)
    drawn = [sample for sample in ledger.samples() if not sample.problem_id.startswith("probe/")]
    assert len(drawn) <= 10 * (row.rounds + 1)
    assert len(saved) == row.rounds + 1 and saved[0].outcome == "INCONCLUSIVE" and not saved[0].comparisons
    assert "to fail" in verdict.reasons[0] and json.loads(json.dumps(verdict.to_dict()))
    scored = results["student"]
    assert scored.lm_eval["results"]["sums"]["pass@1,all"] == pytest.approx(0.1)  # lm-eval's own figure
    assert scored.tasks["sums"].samples_per_item == row.rounds
    assert verdict.models["student"]["completion_tokens_drawn"] == verdict.models["student"]["completion_tokens"] > 0


def test_a_good_student_passes_against_each_published_value(world):
    """Sources conflict: a verdict under each; the labels say which."""
    source = {"url": "https://example.org", "table": "Table 1", "retrieved": date(2026, 1, 1)}
    row = {"task": "sums", "metric": "pass@1", "value": 30.0, "harness": "h", "source": source}
    row["conflicts_with"] = [{"value": 99.5, "source": {**source, "table": "Blog"}}]
    baseline = Baseline(kind="baseline", name="b", title="B", model="b", results=[row])
    gate = spec({"against": "baseline", "baseline": "b"}, budget={"max_rounds": 12})
    verdict, _ = world.gate(gate, world.task(10, 2), [world.contestant()], baselines={"b": baseline}).judge()
    assert {row.label: row.outcome for row in verdict.comparisons} == {
        "student >= b [sums 30.0 (Table 1)]": "PASS",
        "student >= b [sums 99.5 (Blog)]": "FAIL",
    }
    assert verdict.outcome == "FAIL" and "sources conflict (30, 99.5)" in verdict.comparisons[0].note


def test_pairs_share_their_rounds_and_tokens_are_gated_too(world, tmp_path):
    with Ledger.open(tmp_path / "other.db", create=True) as other:
        models = [world.contestant(), world.contestant("teacher", into=other)]
        gate = spec({"against": "teacher", "margin": 0.2}, {"against": "teacher", "metric": "mean_tokens", "ratio": 2})
        verdict, results = world.gate(gate, world.task(12, 3), models).judge()
    right, tokens = verdict.comparisons
    assert verdict.outcome == "PASS" and right.other == right.student == pytest.approx(0.75)
    assert tokens.metric == "mean_tokens" and tokens.needed == pytest.approx(2 * tokens.other)
    assert set(results) == {"student", "teacher"} and "tokens" in tokens.sentence


def test_evidence_goes_on_where_it_stopped_and_the_ledger_is_not_paid_twice(world, ledger):
    gate = spec({"against": "constant", "minimum": 0.7}, budget={"max_rounds": 3})
    task = world.task(10, 3)
    first, _ = world.gate(gate, task, [world.contestant()]).judge()
    assert (first.outcome, first.stopped_by, first.comparisons[0].final_test) == ("INCONCLUSIVE", "cap", "spent")
    assert "no verdict within gate.budget.max_rounds=3" in first.reasons[-1]
    assert "the final test at the cap is spent" in first.reasons[0]
    again, _ = world.gate(gate, task, [world.contestant()], saved=first.evidence).judge()
    assert again.comparisons == first.comparisons
    assert again.models["student"]["completion_tokens_drawn"] == 0
    larger = spec({"against": "constant", "minimum": 0.7}, budget={"max_rounds": 5})
    more, results = world.gate(larger, task, [world.contestant()], saved=first.evidence).judge()
    assert more.samples_per_item == 5 and not more.notes and results["student"].samples_drawn == 20
    assert (
        more.evidence["questions"]["student >= 0.7"]["log_e"][:3]
        == first.evidence["questions"]["student >= 0.7"]["log_e"]
    )
    assert more.comparisons[0].final_test == "spent"
    other = [replace(world.contestant(), identity="another model", opener=None)]
    with pytest.raises(GateError, match="no complete round of the student"):
        world.gate(gate, task, other, saved=first.evidence).judge()
    warm = [replace(world.contestant(), params=replace(PARAMS, temperature=0.7))]
    anew, _ = world.gate(gate, task, warm, saved=first.evidence).judge()
    assert "another model, prompt, parameters or task version" in anew.notes[0]
    changed, _ = world.gate(gate, world.task(10, 2), [world.contestant()], saved=first.evidence).judge()
    assert "not continued" in changed.notes[0]


def test_the_token_budget_is_kept_to_a_round_and_a_later_run_goes_on(world):
    task = world.task(10, 3)
    one, _ = world.gate(
        spec({"against": "constant", "minimum": 0.7}, budget={"max_rounds": 1}), task, [world.contestant()]
    ).judge()
    most = 2 * one.models["student"]["completion_tokens_drawn"]
    gate = spec({"against": "constant", "minimum": 0.7}, budget={"max_rounds": 12, "max_completion_tokens": most})
    first, _ = world.gate(gate, task, [world.contestant()]).judge()
    assert (first.outcome, first.stopped_by, first.exit_code) == ("INCONCLUSIVE", "budget", 6)
    assert "out of budget" in first.reasons[-1] and first.samples_per_item <= 4
    second, _ = world.gate(gate, task, [world.contestant()], saved=first.evidence).judge()
    assert second.samples_per_item > first.samples_per_item


def test_recorded_samples_are_judged_without_an_engine(world, ledger, tmp_path):
    gate, task = spec({"against": "constant", "minimum": 0.6}, budget={"max_rounds": 32}), world.task(10, 9)
    drawn, results = world.gate(gate, task, [world.contestant()]).judge()
    world.server.kill()
    items = [problem.id for problem in task.problems()]
    replayed, _ = world.gate(gate, task, [recorded("student", ledger, items)]).judge()
    assert replayed.comparisons == drawn.comparisons
    results["student"].save(tmp_path / "student.json")
    measured = evaluated("student", EvalResult.load(tmp_path / "student.json"), ledger)
    assert world.gate(gate, task, [measured]).judge()[0].comparisons == drawn.comparisons
    with pytest.raises(GateError, match=r"no samples of nobody .* did you mean|no samples of nobody"):
        recorded("student", ledger, items, "nobody")
    with pytest.raises(GateError, match=r"samples of 10 of 11 items, none of p99"):
        recorded("student", ledger, [*items, "p99"])


def test_more_rounds_than_were_recorded(world, ledger):
    """k larger than the samples: inconclusive, and it says that samples ran out."""
    task = world.task(10, 3)
    gate = spec({"against": "constant", "minimum": 0.7}, budget={"max_rounds": 2})
    world.gate(gate, task, [world.contestant()]).judge()
    items = [problem.id for problem in task.problems()]
    longer = spec({"against": "constant", "minimum": 0.7}, budget={"max_rounds": 30})
    verdict, _ = world.gate(longer, task, [recorded("student", ledger, items)]).judge()
    assert (verdict.outcome, verdict.stopped_by, verdict.exit_code) == ("INCONCLUSIVE", "samples", 4)
    assert verdict.reasons[-1].startswith("the recorded samples end after 2 complete rounds, at most 30")


def test_a_dead_server_keeps_the_rounds_before_it(world, ledger):
    saved = []
    gate, task = spec({"against": "constant", "minimum": 0.7}), world.task(10, 3)

    def save(verdict):
        saved.append(verdict)
        if verdict.samples_per_item == 2:
            world.server.kill()

    contestant = world.contestant(give_up_seconds=1.0)
    with pytest.raises(InfrastructureError):
        world.gate(gate, task, [contestant], save=save).judge()
    rounds = saved[-1].samples_per_item
    assert rounds >= 2 and ledger.count() >= 10 * rounds
    assert len(saved[-1].evidence["questions"]["student >= 0.7"]["log_e"]) == rounds


def test_an_anchor_is_scored_beside_its_published_row(world, tmp_path):
    source = {"url": "https://example.org", "table": "Table 1", "retrieved": date(2026, 1, 1)}
    row = {"task": "sums", "metric": "pass@1", "value": 80.0, "harness": "h", "source": source}
    baseline = Baseline(kind="baseline", name="b", title="B", model="b", results=[row])
    gate, task = spec({"against": "constant", "minimum": 0.2}), world.task(10, 3)
    anchors = {"b": world.contestant("anchor b")}
    verdict, _ = world.gate(gate, task, [world.contestant()], baselines={"b": baseline}, anchors=anchors).judge()
    (found,) = verdict.anchors
    assert found["measured"] == pytest.approx(0.7) and found["distance"] == pytest.approx(-0.1)
    assert found["rounds"] == verdict.samples_per_item and found["source"] == "sums 80.0 (Table 1)"


def test_the_same_question_twice_is_refused(world):
    gate = spec({"against": "constant", "minimum": 0.5}, {"against": "constant", "minimum": 0.5, "alpha": 0.01})
    with pytest.raises(GateError, match="asks the same twice"):
        world.gate(gate, world.task(), [world.contestant()])
