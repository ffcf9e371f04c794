"""Keeps rows whose verdict is accepted: by default, "correct", whoever said so."""

from __future__ import annotations

from typing import Literal

from distill.curate.step import Decision, Row
from distill.errors import did_you_mean
from distill.records import OUTCOMES
from distill.store.ledger import JUDGE
from distill.verify.base import verifier_names

UNVERIFIED = "unverified"


class Verified:
    """Drops with the outcome as the reason: wrong, undecided, no_answer, truncated, error; unverified where there is no
    verdict; other_verifier where the outcome is accepted but not from this verifier.

    `accept` lists outcomes (and unverified), null is correct alone, "any" keeps all, as OpenThoughts3 did: none of the
    answer filters it tried gave a significant gain (https://arxiv.org/abs/2506.04178). `verifiers` names whose verdicts
    count, "judge" for a judge model's; others are left out where a row's verdict is chosen
    (`distill/verify/standing.py`). Each `distill curate` reads both anew: changing one's mind needs no harvest, and
    the drops keep what was refused.

    Source: rejection sampling on a verifiable answer, DeepSeek-R1, https://arxiv.org/abs/2501.12948, section 2.3.3.
    """

    name = "verified"

    def __init__(
        self, *, accept: list[str] | Literal["any"] | None = None, verifiers: list[str] | Literal["any"] = "any"
    ) -> None:
        self.accept = _names("accept", ["correct"] if accept is None else accept, [*OUTCOMES, UNVERIFIED])
        self.verifiers = _names("verifiers", verifiers, [*verifier_names(), JUDGE])

    def filter(self, row: Row) -> Decision:
        outcome, verifier = row["outcome"] or UNVERIFIED, row["verifier"]
        is_other = verifier is not None and self.verifiers is not None and verifier not in self.verifiers
        if self.accept is None or (outcome in self.accept and not is_other):
            return True
        if outcome == UNVERIFIED:
            return False, UNVERIFIED
        reason = "other_verifier" if outcome in self.accept else outcome
        return False, reason, f"{verifier} {row['verifier_version']} read {row['final_answer']!r}"


def _names(parameter: str, given: list[str] | str, known: list[str]) -> frozenset[str] | None:
    """The names as a set, None for "any"."""
    if given == "any":
        return None
    for name in given:
        if name not in known:
            hint = did_you_mean(name, [*known, "any"]) or ";"
            raise ValueError(f"{parameter}: '{name}' is unknown{hint} allowed: any, or a list of {', '.join(known)}")
    if not given:
        raise ValueError(f"{parameter}: the list is empty, so nothing would be kept; name at least one, or write any")
    return frozenset(given)
