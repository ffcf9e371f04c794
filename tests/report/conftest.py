"""A small run directory, written by the classes that write real ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from distill.curate.candidates import candidate
from distill.curate.card import dataset_card
from distill.curate.pipeline import CurationResult, build_steps, curate
from distill.evaluate.result import EvalResult, Item, TaskResult
from distill.evaluate.tasks import read_task
from distill.gate.decide import judge
from distill.gate.report import write_verdict
from distill.gate.spec import Comparison, Gate, Validity
from distill.harvest.policy import PassRate
from distill.harvest.summary import FamilyYield, HarvestSummary
from distill.provenance import RunFile
from distill.records import Problem, Sample, SampleRequest, SamplingParams, Verdict
from distill.store.ledger import Ledger
from distill.store.parquet import write_dataset
from distill.train.sft import TrainingResult

PARAMS = SamplingParams(0.6, 0.95, 256)
ATTACK = "<script>alert('from a model')</script>"
SHARE_RIGHT = {"base": 0.05, "student": 0.9, "teacher": 0.97}
STAGES = {"harvest": 151.2, "curate": 2.4, "train": 182.9, "eval": 77.0, "gate": 0.4}


def make_sample(problem: Problem, role: str, index: int, chance: random.Random) -> tuple[Sample, Verdict]:
    """A completion of this role; the base answers directly, the other two think first."""
    right = chance.random() < SHARE_RIGHT[role]
    gold = str(problem.answer)
    final = gold if right else gold + "1"
    lines = "\n".join(f"step {number}: {problem.family} of {gold[::-1]}" for number in range(chance.randrange(2, 12)))
    reasoning = None if role == "base" else f"{lines}\n{ATTACK}"
    answer = f"The answer is \\boxed{{{final}}}."
    request = SampleRequest(problem.id, f"<user>{problem.prompt}", index, PARAMS)
    sample = Sample(
        key=request.key(role), model=f"tiny-{role}", model_fingerprint=role, problem_id=problem.id,
        prompt_hash=request.prompt_hash, index=index, seed=request.seed, params=PARAMS.to_dict(),
        text=answer if reasoning is None else f"<think>\n{reasoning}\n</think>\n\n{answer}", reasoning=reasoning,
        answer=answer, prompt_tokens=20, completion_tokens=10 + 3 * len((reasoning or "").split()),
        finish_reason="stop", seconds=0.2, cost_usd=None, created_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    outcome: Any = "correct" if right else "wrong"
    return sample, Verdict(sample.key, "gym", "1", outcome, float(right), final)


def evaluated(role: str, problems: list[Problem], k: int, ledger: Ledger, chance: random.Random) -> EvalResult:
    items = []
    for problem in problems:
        drawn = [make_sample(problem, role, index, chance) for index in range(k)]
        ledger.add_samples(sample for sample, _ in drawn)
        items.append(
            Item(
                problem_id=problem.id,
                family=problem.family,
                outcomes=tuple(verdict.outcome for _, verdict in drawn),
                answers=tuple(verdict.extracted for _, verdict in drawn),
                completion_tokens=tuple(sample.completion_tokens for sample, _ in drawn),
                sample_keys=tuple(sample.key for sample, _ in drawn),
                num_distinct_texts=k,
                num_distinct_seeds=k,
            )
        )
    task = TaskResult("tiny", 1.0, k, len(problems), tuple(items))
    return EvalResult(f"tiny-{role}", role, PARAMS.to_dict(), 17, {"tiny": task}, k * len(problems), 0, 3.0)


def harvested(problems: list[Problem], ledger: Ledger, chance: random.Random) -> tuple[HarvestSummary, CurationResult]:
    families: dict[str, FamilyYield] = {}
    rows = []
    for problem in problems:
        sample, verdict = make_sample(problem, "teacher", 7, chance)
        ledger.add_samples([sample])
        ledger.add_verdicts([verdict])
        rows.append(candidate(problem, sample, verdict, PassRate(1, 0.75, 0.3, 0.99)))
        found = families.setdefault(problem.family, FamilyYield())
        found.samples += 1
        found.tokens += sample.completion_tokens
        found.accepted += verdict.outcome == "correct"
    accepted = sum(found.accepted for found in families.values())
    tokens = sum(found.tokens for found in families.values())
    summary = HarvestSummary(
        "tiny", "teacher", len(problems), len(problems), accepted, {"all drawn": len(problems)}, None, 1, len(rows), 0,
        tokens, None, accepted,
        {"correct": accepted, "wrong": len(rows) - accepted}, {"stop": len(rows)}, families, 9.5, tokens / 9.5,
    )  # fmt: skip
    return summary, curate(rows, build_steps([{"verified": {}}, {"max_per_problem": {"max_traces": 1}}]))


def build(directory: Path, *, per_family: int = 3, k: int = 2, families: int = 6) -> Path:
    chance = random.Random(3)
    task = list(islice(read_task("tiny").problems(), 60 * per_family))
    held_out = [problem for problem in task if problem.family in sorted({p.family for p in task})[:families]]
    held_out, train = held_out[: families * per_family], held_out[families * per_family : 3 * families * per_family]
    with Ledger.open(directory / "ledger.db", create=True) as ledger:
        results = {role: evaluated(role, held_out, k, ledger, chance) for role in ("base", "student", "teacher")}
        summary, curation = harvested(train, ledger, chance)
    for role, result in results.items():
        result.save(directory / "eval" / f"{role}.json")
    steps: list[dict[str, dict[str, Any]]] = [{"verified": {}}, {"max_per_problem": {"max_traces": 1}}]
    card = dataset_card(curation, title="tiny", steps=steps)
    write_dataset(directory / "dataset", curation.kept, curation.drops, card)
    verdict = judge(gate(), results["student"], {role: results[role] for role in ("base", "teacher")})
    write_verdict(verdict, directory / "gate")
    write_run_file(directory, summary, curation, verdict.to_dict())
    return directory


def gate() -> Gate:
    comparisons = [
        Comparison(against="teacher", ratio=0.85, method="bootstrap"),
        Comparison(against="base", ratio=3.0, method="bootstrap"),
    ]
    return Gate(
        kind="gate",
        name="small",
        description="Small.",
        tasks=["tiny"],
        comparisons=comparisons,
        validity=Validity(),
    )


def write_run_file(directory: Path, summary: HarvestSummary, curation: CurationResult, verdict: dict[str, Any]) -> None:
    curve = [(step, 2.0 * 0.97**step + 0.1) for step in range(1, 121)]
    training = TrainingResult(120, 90000, 110000, 182.9, 492.1, 36, 0, 0.93, curve[-1][1], 0, curve, [])
    run = RunFile(directory)
    run.record_provenance()
    source = {"gym": {"family": "gcd", "size": 20, "seed": 5, "config": {}}}
    run.data |= {
        "recipe_name": "tiny/quickstart",
        "recipe": {
            "description": "A tiny mixture-of-experts teacher, distilled into a smaller dense student.", "seed": 17,
            "teacher": "tiny", "student": "tiny", "problems": {"train": [source]}, "evaluation": {"tasks": ["tiny"]},
        },
        "problems": {"train": 36, "held_out": 18, "removed_overlap": 1, "removed_duplicates": 2, "by_family": {}},
        "harvest": summary.to_dict(), "curation": curation.to_dict(), "training": training.to_dict(), "gate": verdict,
        "stages": {name: {"state": "done", "seconds": seconds, "attempts": 1} for name, seconds in STAGES.items()},
    }  # fmt: skip
    run.save()


@pytest.fixture(scope="session")
def built_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("runs") / "tiny quickstart")


@pytest.fixture
def run_directory(built_run: Path, tmp_path: Path) -> Path:
    """A copy of the run directory that a test may spoil."""
    import shutil

    return Path(shutil.copytree(built_run, tmp_path / "tiny quickstart"))


@pytest.fixture(scope="session")
def attack() -> str:
    return ATTACK


@pytest.fixture(scope="session")
def build_run() -> Callable[..., Path]:
    return build
