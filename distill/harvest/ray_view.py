"""The live view of a harvest on Ray: what the blocks say of themselves, as one.

    show(combined(views, num_problems=3000, seconds=120.0))

Not covered: how it looks (`progress.py`), how the blocks' views reach the driver (`ray_ledger.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from distill.engines.figures import EngineFigures
from distill.harvest.progress import HarvestView

ADDED = (
    "settled", "settled_from_ledger", "samples", "samples_from_ledger", "tokens", "new_tokens", "verified", "accepted",
    "verifier_errors",
)  # fmt: skip


def finished(view: HarvestView) -> HarvestView:
    """The last view of a block: its slots are no longer its own, its failures stay."""
    return replace(view, engine=None, errors=view.all_errors, verifier_errors=0)


def combined(views: Sequence[HarvestView], num_problems: int, seconds: float) -> HarvestView:
    """The view of the whole, whose blocks have not all begun; budgets are of the whole in every block's view."""
    costs = [view.cost_usd for view in views if view.cost_usd is not None]
    engines = [view.engine for view in views if view.engine is not None]
    errors: Counter[str] = Counter()
    for view in views:
        errors.update(view.errors)
    per_problem = next((view.samples_wanted // view.problems for view in views if view.samples_wanted), None)
    return HarvestView(
        problems=num_problems,
        started=sum(view.started or 0 for view in views),
        samples_wanted=None if per_problem is None else per_problem * num_problems,
        cost_usd=sum(costs) if costs else None,
        seconds=seconds,
        budgets=max((view.budgets for view in views), key=lambda uses: [use.used for use in uses], default=()),
        engine=_together(engines) if engines else None,
        errors=errors,
        **{name: sum(getattr(view, name) for view in views) for name in ADDED},
    )


def _together(engines: Sequence[EngineFigures]) -> EngineFigures:
    failures: Counter[str] = Counter()
    for engine in engines:
        failures.update(engine.failures)
    slots_busy, slots = (sum(getattr(engine, name) for engine in engines) for name in ("slots_busy", "slots"))
    return EngineFigures(slots_busy, slots, failures)
