"""A harvest of many recorded samples goes on after reading a row a settled problem, and nothing else of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import ledger_resume as resuming  # noqa: E402

from distill.harvest.runner import PROBLEMS_PER_LOOK, harvest  # noqa: E402
from distill.store.ledger import Ledger  # noqa: E402

SAMPLES_EACH, OPEN = 16, 100


@pytest.fixture(scope="module")
def problems():
    return resuming.problems_of(50_000 // SAMPLES_EACH)


@pytest.fixture(scope="module")
def filled(problems, tmp_path_factory):
    path = tmp_path_factory.mktemp("scale") / "ledger.db"
    resuming.fill(path, problems, resuming.asking_of(SAMPLES_EACH))
    return path


@pytest.mark.parametrize("place", ["end", "middle"])
def test_what_is_read_before_the_first_request(filled, problems, place):
    asking = resuming.asking_of(SAMPLES_EACH)
    first = {"end": len(problems) - OPEN, "middle": len(problems) // 2}[place]
    resuming.reopen(filled, problems[first : first + OPEN], asking, missing=3)
    seen = {"statements": 0, "keys": 0}

    class Noting(resuming.Scripted):
        def sample(self, requests):
            for sample in super().sample(requests):
                if self.drawn == 1:
                    seen.update(at_first=seen["statements"], keys_at_first=seen["keys"])
                yield sample

    engine = Noting()
    with Ledger.open(filled) as ledger:
        ledger._connection.set_trace_callback(lambda text: seen.update(statements=seen["statements"] + 1))
        read = ledger.get_samples
        ledger.get_samples = lambda keys: seen.update(keys=seen["keys"] + len(keys)) or read(keys)
        started = time.monotonic()
        summary = harvest(engine, ledger, problems, asking, verify_workers=1)
    looks = -(-len(problems) // PROBLEMS_PER_LOOK)
    in_groups_of_keys = 2 * (OPEN * SAMPLES_EACH // 500 + 2)  # samples and verdicts
    assert seen["at_first"] <= looks + in_groups_of_keys
    assert seen["keys_at_first"] <= OPEN * SAMPLES_EACH
    assert engine.first_request_at - started < 10
    assert (summary.samples, engine.drawn) == (len(problems) * SAMPLES_EACH, OPEN * 3)
    assert summary.problems_settled == len(problems) and summary.accepted == summary.samples
