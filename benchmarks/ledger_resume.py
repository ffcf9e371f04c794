"""How soon a harvest of a million recorded samples goes on: benchmarks/ledger_resume.json.

    python benchmarks/ledger_resume.py                  # both layouts; minutes, and 2 GB in the temporary folder
    python benchmarks/ledger_resume.py --samples 50000  # smaller, nothing recorded

A ledger is filled through its own methods with samples, verdicts and yields, as a harvest leaves it. Then a new process
loads the problems and calls `harvest` with a scripted engine that notes when its first request comes, and answers all.

Cases: `tail`, everything is settled but the last 100 problems, of which half is drawn; `middle`, the same of 2,000
problems in the middle that lack one sample each. `cold`: the kernel was told to drop the ledger's pages from its cache
(posix_fadvise). Not covered: a disk slower than this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from distill import provenance
from distill.engines.reasoning import split_reasoning
from distill.harvest.asking import Asking, digest, harvest_scope
from distill.harvest.policy import Ask, Plan
from distill.harvest.runner import harvest
from distill.recipes import Voting
from distill.records import Problem, ProblemYield, Sample, SampleRequest, SamplingParams, Verdict
from distill.store.ledger import Ledger
from distill.verify.base import current_version

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "ledger_resume.json"
SAMPLES = 1_000_000
SAMPLES_PER_PROBLEM = (16, 4)
OPEN_AT_THE_END = 100
OPEN_IN_THE_MIDDLE = 2_000
COMPLETION_TOKENS = 120
PROBLEMS_PER_COMMIT = 500
PARAMS = SamplingParams(0.6, 0.95, 32768)
REASONING = "We add the two numbers, one digit at a time, and look at what is carried. " * 6


class Scripted:
    """Answers 'What is a + b?' rightly and at once; notes when it was first asked."""

    model, fingerprint, can_continue = "scripted", "5c", False

    def __init__(self) -> None:
        self.first_request_at: float | None = None
        self.rss_mib_at_first_request = 0.0
        self.drawn = 0

    def render(self, user_message: str) -> str:
        return f"<user>{user_message}<assistant>"

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Sample | None]:
        for request in requests:
            if request is None:
                yield None
                continue
            if self.first_request_at is None:
                self.first_request_at = time.monotonic()
                self.rss_mib_at_first_request = rss_mib()
            self.drawn += 1
            yield completed(request)

    def close(self) -> None:
        """Nothing is held."""


def completed(request: SampleRequest) -> Sample:
    words = request.prompt.removeprefix("<user>").split()
    text = f"<think>\n{REASONING}\n</think>\n\n\\boxed{{{int(words[2]) + int(words[4].split('?')[0])}}}"
    reasoning, answer = split_reasoning(text)
    return Sample(
        key=request.key(Scripted.fingerprint), model=Scripted.model, model_fingerprint=Scripted.fingerprint,
        problem_id=request.problem_id, prompt_hash=request.prompt_hash, index=request.index, seed=request.seed,
        params=request.params.to_dict(), text=text, reasoning=reasoning, answer=answer, prompt_tokens=40,
        completion_tokens=COMPLETION_TOKENS, finish_reason="stop", seconds=1.5, cost_usd=None,
        created_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def problems_of(count: int) -> list[Problem]:
    tail = "Think step by step, and give your final answer within a box, after you have checked every digit twice."
    return [
        Problem(
            id=f"sum-{number:07d}",
            prompt=f"What is {number} + {number % 997}? {tail}",
            answer=str(number + number % 997),
            verifier="exact",
            family=f"family-{number % 6}",
            domain="sums",
            source="benchmark",
            licence="mit",
        )
        for number in range(count)
    ]


def asking_of(samples_per_problem: int) -> Asking:
    plan = Plan(samples_per_problem, (PARAMS.max_new_tokens,))
    return Asking(plan, PARAMS, 5, Scripted.fingerprint, Scripted().render)


def fill(path: Path, problems: Sequence[Problem], asking: Asking) -> None:
    """Everything that a finished harvest would have left."""
    remaining = iter(problems)
    count = asking.plan.most
    with Ledger.open(path, create=True) as ledger:
        while group := list(islice(remaining, PROBLEMS_PER_COMMIT)):
            drawn = {digest(problem): drawn_of(problem, asking) for problem in group}
            ledger.add_samples(sample for samples in drawn.values() for sample in samples)
            pairs = zip(group, drawn.values(), strict=True)
            ledger.add_verdicts(verdict_of(problem, sample) for problem, samples in pairs for sample in samples)
            gave = ({"correct": count}, {"stop": count}, count * COMPLETION_TOKENS)
            ledger.add_yields(
                harvest_scope(asking, Voting()), (ProblemYield(name, "all drawn", *gave) for name in drawn)
            )


def drawn_of(problem: Problem, asking: Asking) -> list[Sample]:
    entry = asking.entry(problem)
    return [completed(asking.request(entry, Ask(index, 0))) for index in range(asking.plan.most)]


def verdict_of(problem: Problem, sample: Sample) -> Verdict:
    return Verdict(sample.key, problem.verifier, current_version(problem), "correct", 1.0, problem.answer)


def reopen(path: Path, problems: Sequence[Problem], asking: Asking, missing: int) -> None:
    """Take from these problems their last `missing` samples, and that they are settled: a harvest was killed here."""
    keys = [(sample.key,) for problem in problems for sample in drawn_of(problem, asking)[-missing:]]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("DELETE FROM samples WHERE key = ?", keys)
        connection.executemany("DELETE FROM verdicts WHERE sample_key = ?", keys)
        connection.executemany("DELETE FROM yields WHERE problem = ?", [(digest(problem),) for problem in problems])


def resume(path: Path, num_problems: int, samples_per_problem: int, started: float) -> dict[str, Any]:
    """The new process: figures of one resumed harvest. `started` is the wall clock just before the process was."""
    import_seconds, made_from = time.time() - started, time.monotonic()
    problems = problems_of(num_problems)
    engine, rss_before, called = Scripted(), rss_mib(), time.monotonic()
    with Ledger.open(path) as ledger:
        summary = harvest(engine, ledger, problems, asking_of(samples_per_problem), verify_workers=1)
    assert engine.first_request_at is not None
    return {
        "start_and_import_seconds": round(import_seconds, 2),
        "problems_seconds": round(called - made_from, 2),
        "first_request_seconds": round(engine.first_request_at - called, 2),
        "total_seconds": round(time.monotonic() - called, 2),
        "rss_mib_with_problems": round(rss_before, 1),
        "rss_mib_at_first_request": round(engine.rss_mib_at_first_request, 1),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "samples": summary.samples,
        "samples_from_ledger": summary.samples_from_ledger,
        "drawn": engine.drawn,
    }


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(path: Path, num_problems: int, samples_per_problem: int, *, cold: bool) -> dict[str, Any]:
    """Figures of a new process that resumes and ends the harvest."""
    if cold:
        drop_from_cache(path)
    arguments = [str(path), str(num_problems), str(samples_per_problem), repr(time.time())]
    done = subprocess.run(
        [sys.executable, __file__, "--resume", *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run(num_samples: int, samples_per_problem: int, folder: Path) -> dict[str, Any]:
    """All cases of one layout, one after the other on the same file: each ends as it began, settled."""
    path, asking = folder / f"ledger-{samples_per_problem}.db", asking_of(samples_per_problem)
    problems = problems_of(num_samples // samples_per_problem)
    started = time.monotonic()
    fill(path, problems, asking)
    result: dict[str, Any] = {
        "problems": len(problems),
        "samples_per_problem": samples_per_problem,
        "samples": len(problems) * samples_per_problem,
        "trace_characters": len(completed(asking.request(asking.entry(problems[0]), Ask(0, 0))).text),
        "filled_in_seconds": round(time.monotonic() - started, 1),
        "file_mib": round(path.stat().st_size / 2**20, 1),
        "cases": {},
    }
    tail, middle = problems[-OPEN_AT_THE_END:], problems[len(problems) // 2 :][:OPEN_IN_THE_MIDDLE]
    for name, chosen, missing in (("tail", tail, samples_per_problem // 2), ("middle", middle, 1)):
        for state in ("warm", "cold"):
            reopen(path, chosen, asking, missing)
            found = measured(path, len(problems), samples_per_problem, cold=state == "cold")
            assert found["drawn"] == len(chosen) * missing and found["samples"] == result["samples"], found
            result["cases"][f"{name}, {state}"] = found
            print(samples_per_problem, name, state, found, flush=True)
    path.unlink()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--folder", type=Path, help="where the ledgers are made; default a temporary folder")
    parser.add_argument("--resume", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.resume:
        path, num_problems, samples_per_problem, started = arguments.resume
        print(json.dumps(resume(Path(path), int(num_problems), int(samples_per_problem), float(started))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        layouts = [run(arguments.samples, count, Path(folder)) for count in SAMPLES_PER_PROBLEM]
    where = {"machine": provenance.machine(), "versions": provenance.versions(), "code": provenance.commit()}
    record = {"date": provenance.utc_now(), **where, "layouts": layouts}
    if arguments.samples == SAMPLES:
        RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
