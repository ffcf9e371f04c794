"""What a comparison says: figures of each teacher, and of each pair on the same problems.

    figures_of(answers); pair_figures(one, other, problems, compare)

Intervals are 95 %. An accept rate's is over problems: all samples of a problem stay together, so it holds for new
problems like these; a difference is paired by problem (`distill/gate/statistics.py`), over the problems of which both
gave every sample. The ratio of costs is a bootstrap over the same problems. With one sample a problem McNemar's exact
test is given too. Not covered: correction for many pairs; a tokenizer of one's own for all (tokens are each server's).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distill.compare.sampling import Answer, TeacherAnswers
from distill.intervals import wilson_interval
from distill.records import Problem
from distill.verify.classes import CHECKERS, Compare, answer_classes
from distill.verify.extract import one_spelling

RESAMPLES = 10_000
RESAMPLING_SEED = 20261124


@dataclass(frozen=True, slots=True)
class TeacherFigures:
    """One teacher on the picked problems; None where there is nothing to divide by, or no price."""

    name: str
    model: str
    params: dict[str, float]
    problems: int
    problems_covered: int
    samples: int
    unanswered: int
    accepted: int
    accept_rate: float
    accept_interval: tuple[float, float]
    outcomes: dict[str, int]
    truncation_rate: float
    truncation_interval: tuple[float, float]
    mixing_rate: float
    mixing_interval: tuple[float, float]
    tokens: int
    tokens_per_accepted: float | None
    cost_usd: float | None
    usd_per_accepted: float | None
    tokens_median: float
    tokens_p90: float
    seconds_median: float
    """Of one sample, from sending it to its last token."""
    seconds_p90: float
    samples_drawn: int
    """By this call; the others were in the ledger."""
    seconds: float
    """Wall clock of this call."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Two teachers on the same problems; differences are `one` minus `other`, the ratio is `one` to `other`."""

    one: str
    other: str
    problems: int
    accept_difference: float | None
    accept_interval: tuple[float, float] | None
    mcnemar_p: float | None
    cost_ratio: float | None
    """Of tokens per accepted trace."""
    cost_interval: tuple[float, float] | None
    both_answered: int
    agreed: int
    agreement: float | None
    agreement_interval: tuple[float, float] | None
    agreed_and_wrong: int
    """Problems on which both say the same, and the verifier accepts neither."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def figures_of(found: TeacherAnswers, problems: Sequence[Problem], samples: int) -> TeacherFigures:
    """Figures of one teacher, asked for `samples` of each problem."""
    import numpy as np

    answers = found.answers
    count, accepted = len(answers), sum(each.outcome == "correct" for each in answers)
    cut, mixed = sum(each.is_truncated for each in answers), sum(each.is_mixed for each in answers)
    tokens = sum(each.tokens for each in answers)
    dollars = [each.cost_usd for each in answers if each.cost_usd is not None]
    cost = sum(dollars) if answers and len(dollars) == count else None
    lengths, seconds = [each.tokens for each in answers] or [0], [each.seconds for each in answers] or [0.0]
    return TeacherFigures(
        name=found.name,
        model=found.model,
        params=found.params,
        problems=len(problems),
        problems_covered=len({each.problem_id for each in answers if each.outcome == "correct"}),
        samples=count,
        unanswered=len(problems) * samples - count,
        accepted=accepted,
        accept_rate=accepted / count if count else 0.0,
        accept_interval=_accept_interval(answers, samples),
        outcomes=dict(Counter(each.outcome for each in answers).most_common()),
        truncation_rate=cut / count if count else 0.0,
        truncation_interval=wilson_interval(cut, count),
        mixing_rate=mixed / count if count else 0.0,
        mixing_interval=wilson_interval(mixed, count),
        tokens=tokens,
        tokens_per_accepted=tokens / accepted if accepted else None,
        cost_usd=cost,
        usd_per_accepted=cost / accepted if accepted and cost is not None else None,
        tokens_median=float(np.median(lengths)),
        tokens_p90=float(np.quantile(lengths, 0.9)),
        seconds_median=float(np.median(seconds)),
        seconds_p90=float(np.quantile(seconds, 0.9)),
        samples_drawn=found.drawn,
        seconds=found.seconds,
    )


def _accept_interval(answers: Sequence[Answer], samples: int) -> tuple[float, float]:
    """Over problems of which every sample was answered; one sample a problem is a plain share."""
    from distill.evaluate.metrics import population_interval

    correct = [right for right, drawn in _by_problem(answers).values() if drawn == samples]
    if samples == 1 or not correct:
        return wilson_interval(sum(correct), len(correct))
    return population_interval(correct, samples)


def _by_problem(answers: Sequence[Answer]) -> dict[str, tuple[int, int]]:
    """(correct, samples) of each problem."""
    counts: dict[str, tuple[int, int]] = {}
    for each in answers:
        right, drawn = counts.get(each.problem_id, (0, 0))
        counts[each.problem_id] = (right + (each.outcome == "correct"), drawn + 1)
    return counts


def pair_figures(
    one: TeacherAnswers, other: TeacherAnswers, problems: Sequence[Problem], samples: int, same: Mapping[str, list[int]]
) -> PairFigures:
    """Figures of a pair; `same` has of each problem the classes of their answers (`answer_labels`), -1 without."""
    sides = [_by_problem(each.answers) for each in (one, other)]
    shared = [
        each.id for each in problems if all(side.get(each.id, (0, 0))[1] == samples for side in sides)
    ]  # every sample of both
    both = [name for name, labels in same.items() if min(labels) >= 0]
    agreed = [name for name in both if same[name][0] == same[name][1]]
    wrong = sum(all(side.get(name, (0, 0))[0] == 0 for side in sides) for name in agreed)
    right = [[side[name][0] for name in shared] for side in sides]
    difference, interval, p = _difference(right[0], right[1], samples)
    ratio, ratio_interval = _cost_ratio(one, other, shared)
    return PairFigures(
        one=one.name,
        other=other.name,
        problems=len(shared),
        accept_difference=difference,
        accept_interval=interval,
        mcnemar_p=p,
        cost_ratio=ratio,
        cost_interval=ratio_interval,
        both_answered=len(both),
        agreed=len(agreed),
        agreement=len(agreed) / len(both) if both else None,
        agreement_interval=wilson_interval(len(agreed), len(both)) if both else None,
        agreed_and_wrong=wrong,
    )


def _difference(
    one: Sequence[int], other: Sequence[int], samples: int
) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """Accept rate of one minus the other's, its interval, and McNemar's two-sided p where there is one sample each."""
    from distill.gate.statistics import Counts, Pair, exact_sign, mean_difference

    if not one:
        return None, None, None
    pair = Pair(Counts("one", tuple(one), samples), Counts("other", tuple(other), samples))
    bound = mean_difference([pair], alpha=0.025)
    p = None
    if samples == 1:
        back = Pair(pair.other or pair.student, pair.student)
        p = min(1.0, 2 * min(exact_sign(pair).p_value, exact_sign(back).p_value))
    return bound.estimate, (bound.lower_bound, bound.upper_bound), p


def _cost_ratio(
    one: TeacherAnswers, other: TeacherAnswers, shared: Sequence[str]
) -> tuple[float | None, tuple[float, float] | None]:
    """Ratio of tokens per accepted trace, with a percentile interval over problems; None where one accepts nothing."""
    import numpy as np

    place = {name: number for number, name in enumerate(shared)}
    spent, accepted = np.zeros((2, len(shared))), np.zeros((2, len(shared)))
    for side, found in enumerate((one, other)):
        for each in found.answers:
            if each.problem_id in place:
                spent[side, place[each.problem_id]] += each.tokens
                accepted[side, place[each.problem_id]] += each.outcome == "correct"
    if not accepted.sum(axis=1).all() or not spent.sum(axis=1).all():
        return None, None
    weights = np.random.default_rng(RESAMPLING_SEED).multinomial(
        len(shared), [1 / len(shared)] * len(shared), RESAMPLES
    )
    costs = (weights @ spent.T) / np.maximum(weights @ accepted.T, 0.5)  # a draw without any counts half a trace
    totals = spent.sum(axis=1) / accepted.sum(axis=1)
    low, high = np.quantile(costs[:, 0] / costs[:, 1], [0.025, 0.975])
    return float(totals[0] / totals[1]), (float(low), float(high))


def answer_labels(
    found: Sequence[TeacherAnswers], problems: Sequence[Problem], compare: Compare
) -> dict[str, list[int]]:
    """For each problem, the class of each teacher's answer (its most frequent), -1 where it gave none.

    What the same answer is, says the problem's verifier where it can compare two answers; else equal text. Answers that
    are programs are left out: equal programs are no sign, different ones neither.
    """
    answers = [_leading(each.answers) for each in found]
    labels = {}
    for problem in problems:
        given = [side.get(problem.id) for side in answers]
        if problem.verifier == "code":
            continue
        if problem.verifier in (*CHECKERS, "majority"):
            classes = [each.members for each in answer_classes(problem, given, compare=compare)]
            labels[problem.id] = [
                next((number for number, members in enumerate(classes) if place in members), -1)
                for place in range(len(given))
            ]
        else:
            spellings = [None if answer is None else one_spelling(answer) for answer in given]
            known = [spelling for spelling in dict.fromkeys(spellings) if spelling is not None]
            labels[problem.id] = [-1 if spelling is None else known.index(spelling) for spelling in spellings]
    return labels


def _leading(answers: Sequence[Answer]) -> dict[str, str]:
    """Each problem's most frequent final answer; the first of those that are as frequent."""
    given: dict[str, list[str]] = {}
    for each in answers:
        if each.extracted is not None:
            given.setdefault(each.problem_id, []).append(each.extracted)
    leading = {}
    for name, texts in given.items():
        spelling, _ = Counter(map(one_spelling, texts)).most_common(1)[0]
        leading[name] = next(text for text in texts if one_spelling(text) == spelling)
    return leading
