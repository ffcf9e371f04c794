"""How far a judge is to be trusted: its verdicts beside the verifier's on samples that the verifier decided.

    agreement = judge_agreement(ledger, asked, identity=summary.judge)
    agreement.false_equivalent        # Rate(count=1, of=40, low=0.004, high=0.129)

A share of what the verifier decided is judged too (`harvest.judge.check_share`), so each run measures its own judge.
The verifier is the yardstick, not the truth: on answers it misreads, the judge that is right counts as wrong here.
Not covered: how often a judge is right where the verifier could not tell; for that, label a few by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from distill.intervals import wilson_interval
from distill.records import OUTCOMES, Outcome, Problem
from distill.store.ledger import Ledger
from distill.verify.standing import judge_verdict, verifier_verdict

KEYS_PER_BATCH = 500
DECIDED: tuple[Outcome, ...] = ("correct", "wrong")


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95% Wilson interval."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.count, self.of)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"count": self.count, "of": self.of, "low": round(low, 4), "high": round(high, 4)}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count} of {self.of} [{low:.3f}, {high:.3f}]" if self.of else "0 of 0"


@dataclass(slots=True)
class JudgeAgreement:
    """Counts by (the verifier's outcome, the judge's outcome); the judge's "undecided" is "cannot tell"."""

    counts: Counter[tuple[Outcome, Outcome]] = field(default_factory=Counter)

    def add(self, verifier_outcome: Outcome, judge_outcome: Outcome) -> None:
        """Count a pair; pairs that the verifier did not decide say nothing and are left out."""
        if verifier_outcome in DECIDED:
            self.counts[verifier_outcome, judge_outcome] += 1

    @property
    def false_equivalent(self) -> Rate:
        """Of the answers that the verifier calls wrong, those that the judge calls equivalent."""
        return self._rate("wrong", "correct")

    @property
    def false_different(self) -> Rate:
        """Of the answers that the verifier calls correct, those that the judge calls different."""
        return self._rate("correct", "wrong")

    @property
    def cannot_tell(self) -> Rate:
        """Of all, those where the judge could not tell, or three votes had no majority, or the reply was malformed."""
        unsure = sum(count for (_, judge), count in self.counts.items() if judge == "undecided")
        return Rate(unsure, self.counts.total())

    def _rate(self, own: Outcome, judge: Outcome) -> Rate:
        return Rate(self.counts[own, judge], sum(self.counts[own, other] for other in OUTCOMES))

    def to_dict(self) -> dict[str, Any]:
        return {
            "pairs": self.counts.total(),
            "false_equivalent": self.false_equivalent.to_dict(),
            "false_different": self.false_different.to_dict(),
            "cannot_tell": self.cannot_tell.to_dict(),
        }

    def __str__(self) -> str:
        if not self.counts:
            return "judge against verifier: nothing was judged that the verifier had decided"
        return (
            f"judge against verifier on {self.counts.total()} decided samples: false equivalent "
            f"{self.false_equivalent}, false different {self.false_different}, cannot tell {self.cannot_tell}"
        )

    def _repr_html_(self) -> str:
        judged = [outcome for outcome in ("correct", "wrong", "undecided")]
        head = "".join(f"<th>judge: {outcome}</th>" for outcome in judged)
        rows = "".join(
            f"<tr><td>verifier: {own}</td>{''.join(f'<td>{self.counts[own, judge]}</td>' for judge in judged)}</tr>"  # type: ignore[index]
            for own in DECIDED
        )
        return f"<p>{self}</p><table><tr><th></th>{head}</tr>{rows}</table>"


def judge_agreement(
    ledger: Ledger, asked: Mapping[str, Problem] | Iterable[tuple[str, Problem]], *, identity: str | None = None
) -> JudgeAgreement:
    """Of all samples asked for that both decided on, whatever the rule says stands; read in batches."""
    agreement = JudgeAgreement()
    pairs = iter(asked.items() if isinstance(asked, Mapping) else asked)
    while batch := dict(islice(pairs, KEYS_PER_BATCH)):
        for key, verdicts in ledger.get_all_verdicts(batch).items():
            own = verifier_verdict(batch[key], verdicts)
            judged = judge_verdict(batch[key], verdicts, identity)
            if own is not None and judged is not None:
                agreement.add(own.outcome, judged.outcome)
    return agreement
