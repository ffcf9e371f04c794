"""Keeps rows whose verdict is "correct"."""

from __future__ import annotations

from distill.curate.step import Decision, Row


class Verified:
    """Drops with the outcome as the reason: wrong, undecided (the verifier cannot tell), no_answer, truncated, error.

    unverified where there is no verdict.

    Source: rejection sampling on a verifiable answer, DeepSeek-R1, https://arxiv.org/abs/2501.12948, section 2.3.3.
    """

    name = "verified"

    def filter(self, row: Row) -> Decision:
        outcome = row["outcome"]
        if outcome == "correct":
            return True
        if outcome is None:
            return False, "unverified"
        return False, outcome, f"{row['verifier']} {row['verifier_version']} read {row['final_answer']!r}"
