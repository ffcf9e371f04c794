"""The ledger's actor as the plain class it is: what is done once, who may write pieces, when a block is given up."""

from __future__ import annotations

import pytest

from distill.errors import InfrastructureError, LedgerError
from distill.harvest.budget import Spending, Spent
from distill.harvest.progress import HarvestView
from distill.harvest.ray_ledger import MOST_STARTS_WITHOUT_PROGRESS, LedgerServer, Teacher
from distill.harvest.runner import harvest
from distill.recipes import Budget
from distill.records import TracePiece, Verdict
from distill.store.ledger import Ledger


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
def samples(engine, problems, ledger, settings):
    harvest(engine(), ledger, problems(2), **settings)
    return list(ledger.samples())


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
    server.opened(Teacher("f1", True), ["probe of a"])
    server.opened(Teacher("f1", True), ["probe of a", "probe of b"])
    assert server.overview().teacher == Teacher("f1", True)
    assert server.overview().notes == ["probe of a", "probe of b"]
    for other in (Teacher("f2", True), Teacher("f1", False)):
        with pytest.raises(InfrastructureError, match="workers have different teachers"):
            server.opened(other, [])


def test_stopping(server):
    assert server.report(0, HarvestView(), Spent(1)) == (False, Spent())
    server.stop()
    assert server.report(0, HarvestView(), Spent(1)) == (True, Spent())
    assert server.is_stopping()


def test_a_budget_is_of_all_blocks(server):
    server.report(0, HarvestView(), Spent(40, finished=1))
    _, elsewhere = server.report(1, HarvestView(), Spent(30, in_flight=2, finished=3))
    assert elsewhere == Spent(tokens=40, finished=1)
    elsewhere, seconds = server.start_block(2, "w")
    assert elsewhere == Spent(tokens=70, in_flight=2, finished=4)
    assert 0 <= seconds < 60
    here = Spending(Budget(tokens=100), 10, elsewhere=elsewhere)
    assert here.exhausted() is None and here.is_reserved()  # two more of 17.5 tokens each would use it up
    here.drawn(30, None)
    assert here.exhausted() == "budget.tokens: 100 of 100 tokens"


def test_a_block_that_starts_again_is_counted_once(server):
    server.report(0, HarvestView(), Spent(40))
    assert server.start_block(0, "next")[0] == Spent()
    assert server.start_block(1, "w")[0] == Spent()


def test_a_place_that_cannot_be_a_ledger(tmp_path):
    with pytest.raises(LedgerError, match="found a folder"):
        LedgerServer(str(tmp_path))
