"""The ledger's actor as the plain class it is: what is done once, who may write pieces, when a block is given up."""

from __future__ import annotations

import pytest

from distill.engines.base import sample_through_ledger
from distill.errors import InfrastructureError, LedgerError
from distill.harvest.ray_ledger import MOST_STARTS_WITHOUT_PROGRESS, LedgerServer
from distill.harvest.runner import requests_for
from distill.records import SamplingParams, TracePiece, Verdict
from distill.store.ledger import Ledger

PARAMS = SamplingParams(0.6, 0.95, 64)


@pytest.fixture
def server(tmp_path):
    return LedgerServer(str(tmp_path / "served.db"))


@pytest.fixture
def on_disk(tmp_path):
    """The same file through another connection: what another process sees."""

    def open_again() -> Ledger:
        return Ledger.open(tmp_path / "served.db")

    return open_again


@pytest.fixture
def samples(engine, problems, ledger):
    requests = requests_for(engine().render, problems(2), 4, PARAMS, 5)
    return list(sample_through_ledger(engine(), ledger, requests))


def piece(text: str, start: str = "more") -> TracePiece:
    return TracePiece("k", start, text, "", 1)


def test_samples_and_verdicts_are_on_disk_when_a_call_returns(tmp_path, samples):
    server = LedgerServer(str(tmp_path / "other.db"))
    assert server.add_samples(0, samples[:3]) == 3
    assert server.add_samples(0, samples[:4]) == 1  # repeated by Ray after a broken connection
    verdict = Verdict(samples[0].key, "exact", "1", "correct", 1.0, "1")
    assert server.add_verdicts([verdict]) == 1
    with Ledger.open(tmp_path / "other.db") as ledger:
        assert list(ledger.samples()) == samples[:4]
    keys = [sample.key for sample in samples]
    assert list(server.read("get_samples", keys)) == keys[:4]
    assert server.read("get_verdicts", keys) == {samples[0].key: verdict}


def test_pieces_are_appended_once(server, on_disk):
    server.start_block(0, "a")
    assert server.add_pieces(0, "a", 1, [piece("one ", "fresh")]) == 1
    assert server.add_pieces(0, "a", 2, [piece("two ")]) == 1
    assert server.add_pieces(0, "a", 2, [piece("two ")]) == 0
    assert server.add_pieces(0, "a", 3, [piece("three")]) == 1
    with on_disk() as ledger:
        assert ledger.get_partials(["k"])["k"].reasoning == "one two three"


def test_a_worker_that_lost_its_block_appends_no_pieces(server, on_disk):
    server.start_block(0, "lost")
    server.add_pieces(0, "lost", 1, [piece("half ", "fresh")])
    server.start_block(0, "next")
    assert server.add_pieces(0, "lost", 2, [piece("of the lost one")]) == 0
    assert server.add_pieces(0, "next", 1, [piece("a thought", "spliced")]) == 1
    with on_disk() as ledger:
        assert ledger.get_partials(["k"])["k"].reasoning == "half a thought"


def test_a_block_that_ends_its_workers_is_given_up(server):
    for _ in range(MOST_STARTS_WITHOUT_PROGRESS):
        server.start_block(7, "w")
    with pytest.raises(InfrastructureError, match="block 7 ended its worker 5 times"):
        server.start_block(7, "w")


def test_a_new_sample_gives_a_block_more_starts(server, samples):
    for number in range(MOST_STARTS_WITHOUT_PROGRESS + 2):
        server.start_block(7, "w")
        server.add_samples(7, [samples[number]])


def test_workers_with_different_teachers(server):
    server.opened("f1", ["probe of a"])
    server.opened("f1", ["probe of a", "probe of b"])
    assert (server.overview().fingerprint, server.overview().notes) == ("f1", ["probe of a", "probe of b"])
    with pytest.raises(InfrastructureError, match="fingerprints f1 and f2"):
        server.opened("f2", [])


def test_stopping(server):
    tally = {"samples": 1}
    assert server.report(0, tally) is False
    server.stop()
    assert server.report(0, tally) is True
    assert server.is_stopping()


def test_a_place_that_cannot_be_a_ledger(tmp_path):
    with pytest.raises(LedgerError, match="found a folder"):
        LedgerServer(str(tmp_path))
