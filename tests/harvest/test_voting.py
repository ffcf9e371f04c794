"""Votes that are counted again (`distill/harvest/voting.py`)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill.harvest.runner import harvest
from distill.harvest.verify_again import VerifiedAgain
from distill.harvest.voting import vote_again
from distill.recipes import Voting


@pytest.fixture
def again(ledger, asking_of, problems):
    """Harvests four problems without gold answers under a loose vote; then votes again as it is told."""
    asked = [replace(each, verifier="majority", answer=None, meta={"equivalence": "exact"}) for each in problems(4)]

    def make(engine, settings: Voting, *, meta: dict | None = None, everything: bool = False) -> VerifiedAgain:
        if not ledger.count():
            loose = Voting(min_votes=1, min_share=0.3)
            harvest(engine(), ledger, asked, asking_of(), voting=loose, verify_workers=1)
        today = [replace(each, meta=meta or each.meta) for each in asked]
        result = VerifiedAgain()
        entries = asking_of().replay(ledger, today)
        vote_again(ledger, entries, settings, result, everything=everything, verify_timeout_seconds=10.0)
        return result

    return make


def test_current_votes_stay_and_all_of_them_vote_when_asked(again, engine, ledger):
    same = Voting(min_votes=1, min_share=0.3)
    result = again(engine, same)
    assert (result.samples, result.verified) == (16, 0)
    counted = ledger.count_verdicts()
    result = again(engine, same, everything=True)
    assert (result.verified, result.changed) == (16, 0)
    assert ledger.count_verdicts() == counted


def test_another_equivalence_is_another_vote_and_thresholds_count_with_all(again, engine, ledger):
    result = again(engine, Voting(min_votes=1, min_share=0.3), meta={"equivalence": "math"})
    assert result.verified == 16
    stricter = again(engine, Voting(min_votes=16, min_share=1.0), everything=True)
    assert stricter.outcomes["undecided"] > 0 and stricter.outcomes["correct"] == 0
    assert "wrong" not in {now for _, now in stricter.changes}
