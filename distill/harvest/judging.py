"""The judge's turn of a harvest: what the verifier could not decide goes to the judge model of the recipe.

    summary = judge_harvest(recipe.harvest.judge, recipe.endpoint, ledger, asked, run_seed=recipe.seed)
    row = standing(problem, verdicts, judge=judge_rule(recipe.harvest.judge, summary.identity))

It follows sampling and verification, and may be run again at any time, by itself or by `distill verify --judge`: what
was judged is in the ledger. Not covered: asking and reading (`distill/verify/judge.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

from distill.recipes import Endpoint, Judge
from distill.records import Problem
from distill.store.ledger import Ledger
from distill.verify.judge import Case, JudgeSummary, judge_samples, open_judge, role_of
from distill.verify.standing import JudgeRule, verifier_verdict

KEYS_PER_BATCH = 500


def judge_harvest(
    settings: Judge,
    endpoint: Endpoint,
    ledger: Ledger,
    asked: Mapping[str, Problem] | Iterable[tuple[str, Problem]],
    *,
    run_seed: int,
    base_dir: Path = Path(),
) -> JudgeSummary:
    """Judge what the recipe asks for among the samples of `asked` (key, problem) that the ledger has.

    The judge is opened only if there is something to judge. Raises: as `open_judge` and `judge_samples`.
    """
    found = cases(ledger, asked, settings)
    first = list(islice(found, 1))
    if not first:
        return JudgeSummary(settings.model or str(settings.base_url), "")
    with closing(open_judge(settings, endpoint, base_dir=base_dir)) as engine:
        return judge_samples(engine, ledger, chain(first, found), settings, run_seed=run_seed)


def cases(
    ledger: Ledger, asked: Mapping[str, Problem] | Iterable[tuple[str, Problem]], settings: Judge
) -> Iterator[Case]:
    """Samples to judge or to check the judge on, each with the verifier's verdict; read in batches."""
    pairs = iter(asked.items() if isinstance(asked, Mapping) else asked)
    while batch := dict(islice(pairs, KEYS_PER_BATCH)):
        verdicts = {
            key: own
            for key, given in ledger.get_all_verdicts(batch).items()
            if (own := verifier_verdict(batch[key], given)) is not None and role_of(settings, own)
        }
        for key, sample in ledger.get_samples(verdicts).items():
            yield batch[key], sample, verdicts[key]


def judge_rule(settings: Judge | None, identity: str | None = None) -> JudgeRule | None:
    """Where the judge's verdicts stand: for the outcomes that the recipe asks about; nowhere without a judge."""
    return None if settings is None else JudgeRule(frozenset(settings.outcomes), identity or None)
