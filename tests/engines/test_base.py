"""From a request to a sample in the ledger: nothing that was reported is lost, nothing is drawn twice."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distill.engines.base import sample_through_ledger
from distill.store.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db", create=True) as opened:
        yield opened


class Counting:
    """An engine that notes what it was asked for, and may be interrupted after some samples."""

    def __init__(self, engine, interrupt_after: int | None = None) -> None:
        self.engine, self.interrupt_after = engine, interrupt_after
        self.model, self.fingerprint, self.can_continue = engine.model, engine.fingerprint, False
        self.asked: list[str] = []

    def render(self, user_message):
        return self.engine.render(user_message)

    def sample(self, requests):
        requests = list(requests)
        self.asked += [request.key(self.fingerprint) for request in requests]
        for number, sample in enumerate(self.engine.sample(requests)):
            if number == self.interrupt_after:
                raise KeyboardInterrupt
            yield sample

    def close(self):
        self.engine.close()


def test_a_second_run_draws_nothing(qwen2, make_engine, make_requests, ledger):
    engine = Counting(make_engine(qwen2, 8))
    requests = make_requests(engine, 20, max_new_tokens=12)
    first = {sample.key: sample for sample in sample_through_ledger(engine, ledger, requests)}
    assert len(engine.asked) == len(first) == ledger.count() == 20
    again = {sample.key: sample for sample in sample_through_ledger(engine, ledger, requests)}
    assert len(engine.asked) == 20
    assert again == first


def test_duplicate_requests_are_drawn_once(qwen2, make_engine, make_requests, ledger):
    engine = Counting(make_engine(qwen2, 8))
    requests = make_requests(engine, 5, max_new_tokens=12)
    assert len(list(sample_through_ledger(engine, ledger, requests * 3))) == 5
    assert len(engine.asked) == 5


@pytest.mark.parametrize("commit_every", [1, 4, 100])
def test_closed_midway(qwen2, make_engine, make_requests, ledger, commit_every):
    engine = Counting(make_engine(qwen2, 8))
    requests = make_requests(engine, 20, max_new_tokens=12)
    drawing = sample_through_ledger(engine, ledger, requests, commit_every=commit_every)
    reported = [next(drawing) for _ in range(6)]
    assert set(ledger.get_samples([sample.key for sample in reported])) == {sample.key for sample in reported}
    drawing.close()
    held = ledger.count()
    assert held >= 6
    rest = list(sample_through_ledger(engine, ledger, requests))
    assert len(rest) == ledger.count() == 20
    assert len(engine.asked) == 20 + 20 - held


def test_interrupted_in_the_engine_keeps_what_is_finished(qwen2, make_engine, make_requests, ledger):
    engine = Counting(make_engine(qwen2, 8), interrupt_after=11)
    requests = make_requests(engine, 20, max_new_tokens=12)
    reported = []
    with pytest.raises(KeyboardInterrupt):
        for sample in sample_through_ledger(engine, ledger, requests, commit_every=4, commit_every_seconds=600):
            reported.append(sample.key)
    assert len(reported) == 8
    assert ledger.count() == 11, "three more were finished: kept, though never reported"


def test_resumed_samples_are_the_uninterrupted_ones(qwen2, make_engine, make_requests, ledger, tmp_path):
    """Another batch composition after the interruption, the same texts."""
    requests = make_requests(make_engine(qwen2, 8), 20, max_new_tokens=24)
    with Ledger.open(tmp_path / "straight.db", create=True) as straight:
        expected = {s.key: s.text for s in sample_through_ledger(make_engine(qwen2, 8), straight, requests)}
    with pytest.raises(KeyboardInterrupt):
        list(sample_through_ledger(Counting(make_engine(qwen2, 8), 7), ledger, requests, commit_every=1))
    found = {s.key: s.text for s in sample_through_ledger(make_engine(qwen2, 8), ledger, requests)}
    assert found == expected


KILLED = """
import os, signal, sys
from distill.engines.base import sample_through_ledger
from distill.records import Sample, SampleRequest, SamplingParams
from distill.store.ledger import Ledger

class Engine:
    model, fingerprint, can_continue = "scripted", "f", False
    def sample(self, requests):
        for number, request in enumerate(requests):
            if number == 37:
                os.kill(os.getpid(), signal.SIGKILL)
            yield Sample(request.key("f"), "scripted", "f", request.problem_id, request.prompt_hash, request.index,
                         request.seed, {}, "t", None, "t", 1, 1, "stop", 0.1, None, "now")

requests = [SampleRequest("p", "q", index, SamplingParams(1.0, 1.0, 8)) for index in range(100)]
with Ledger.open(sys.argv[1], create=True) as ledger:
    for sample in sample_through_ledger(Engine(), ledger, requests, commit_every=8, commit_every_seconds=600):
        print(sample.key, flush=True)
"""


def test_kill_9_loses_nothing_reported(tmp_path):
    path = tmp_path / "ledger.db"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == -9
    reported = run.stdout.split()
    assert len(reported) == 32
    with Ledger.open(path) as ledger:
        assert set(reported) <= {sample.key for sample in ledger.samples()}
