"""What a harvest cost and gave; its first figure is teacher tokens per accepted trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(slots=True)
class FamilyYield:
    """Counts of one problem family."""

    samples: int = 0
    accepted: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class HarvestSummary:
    """Figures of a harvest, new samples and those the ledger already had together."""

    teacher: str
    teacher_fingerprint: str
    problems: int
    problems_settled: int
    problems_covered: int  # with at least one accepted trace
    settled_by: dict[str, int]  # problems by why nothing more is drawn of them
    stopped_by: str | None  # the budget that ran out
    samples_per_problem: int  # at most
    samples: int
    samples_from_ledger: int
    completion_tokens: int
    cost_usd: float | None
    accepted: int
    outcomes: dict[str, int]
    finish_reasons: dict[str, int]
    families: dict[str, FamilyYield]
    seconds: float
    tokens_per_second: float  # of new samples

    @property
    def accept_rate(self) -> float:
        return self.accepted / self.samples if self.samples else 0.0

    @property
    def tokens_per_accepted_trace(self) -> float | None:
        """Teacher completion tokens spent for each accepted trace; None where nothing was accepted."""
        return round(self.completion_tokens / self.accepted, 1) if self.accepted else None

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "accept_rate": round(self.accept_rate, 4),
            "tokens_per_accepted_trace": self.tokens_per_accepted_trace,
        }

    def __str__(self) -> str:
        cost = self.tokens_per_accepted_trace
        return (
            f"harvest: {self.samples} samples of {self.problems} problems, {self.samples_from_ledger} from the ledger, "
            f"{self.accepted} accepted ({self.accept_rate:.1%}), "
            f"{'no' if cost is None else cost} teacher tokens per accepted trace, {self.tokens_per_second:.0f} tokens/s"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{family}</td><td>{yields.samples}</td><td>{yields.accepted}</td>"
            f"<td>{yields.accepted / max(1, yields.samples):.1%}</td>"
            f"<td>{yields.tokens / max(1, yields.accepted):.0f}</td></tr>"
            for family, yields in self.families.items()
        )
        head = "<tr><th>family</th><th>samples</th><th>accepted</th><th>rate</th><th>tokens per accepted</th></tr>"
        return f"<p>{self}</p><table>{head}{rows}</table>"


def merged(summaries: Sequence[HarvestSummary], seconds: float) -> HarvestSummary:
    """The summary of parts of one harvest, done beside each other within `seconds`."""
    first = summaries[0]
    families: dict[str, FamilyYield] = {}
    for summary in summaries:
        add_families(families, summary.families)
    costs = [summary.cost_usd for summary in summaries if summary.cost_usd is not None]
    new_tokens = sum(summary.tokens_per_second * summary.seconds for summary in summaries)
    return replace(
        first,
        problems=sum(summary.problems for summary in summaries),
        problems_settled=sum(summary.problems_settled for summary in summaries),
        problems_covered=sum(summary.problems_covered for summary in summaries),
        settled_by=_added(summary.settled_by for summary in summaries),
        stopped_by=next((summary.stopped_by for summary in summaries if summary.stopped_by is not None), None),
        cost_usd=round(sum(costs), 6) if costs else None,
        samples=sum(summary.samples for summary in summaries),
        samples_from_ledger=sum(summary.samples_from_ledger for summary in summaries),
        completion_tokens=sum(summary.completion_tokens for summary in summaries),
        accepted=sum(summary.accepted for summary in summaries),
        outcomes=_added(summary.outcomes for summary in summaries),
        finish_reasons=_added(summary.finish_reasons for summary in summaries),
        families=dict(sorted(families.items())),
        seconds=round(seconds, 2),
        tokens_per_second=round(new_tokens / seconds, 1) if seconds > 0 else 0.0,
    )


def add_families(families: dict[str, FamilyYield], more: Mapping[str, FamilyYield]) -> None:
    """Add counts in place."""
    for name, part in more.items():
        whole = families.setdefault(name, FamilyYield())
        whole.samples += part.samples
        whole.accepted += part.accepted
        whole.tokens += part.tokens


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))
