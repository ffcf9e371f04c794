"""The views of blocks as one: counts, slots, errors and budgets of the whole."""

from __future__ import annotations

from dataclasses import replace

from distill.engines.figures import EngineFigures
from distill.harvest.progress import BudgetUse, HarvestView
from distill.harvest.ray_view import combined, finished
from distill.harvest.runner import harvest
from distill.store.ledger import Ledger


def test_views_of_two_blocks_are_the_view_of_the_whole(engine, problems, settings, tmp_path):
    def last_view(name: str, part) -> HarvestView:
        seen: list[HarvestView] = []
        with Ledger.open(tmp_path / name, create=True) as ledger:
            harvest(engine(), ledger, part, progress=seen.append, **settings)
        return seen[-1]

    whole = last_view("whole.db", problems(5))
    parts = [last_view("a.db", problems(5)[:3]), last_view("b.db", problems(5)[3:])]
    assert combined(parts, 5, whole.seconds) == whole
    assert (whole.samples, whole.accepted, whole.samples_wanted) == (20, 5, 20)


def test_blocks_that_have_not_begun_are_counted_as_problems_only():
    view = combined([HarvestView(problems=2, started=2, settled=1, samples=3, samples_wanted=8)], 10, 4.0)
    assert (view.problems, view.started, view.settled, view.samples_wanted, view.seconds) == (10, 2, 1, 40, 4.0)


def test_slots_of_running_blocks_and_errors_of_all():
    one = HarvestView(engine=EngineFigures(3, 8, {"stalled": 2}), errors={"unanswered": 1}, verifier_errors=1)
    two = replace(one, engine=EngineFigures(5, 8, {"reset": 1}))
    both = combined([one, two], 4, 1.0)
    assert both.engine == EngineFigures(8, 16, {"stalled": 2, "reset": 1})
    assert both.all_errors == {"reset": 1, "stalled": 2, "unanswered": 2, "verifier": 2}
    after = combined([finished(one), two], 4, 1.0)
    assert after.engine == EngineFigures(5, 8, {"reset": 1})
    assert after.all_errors == both.all_errors


def test_a_budget_is_not_added_up():
    """Every block's view has what all have spent; the latest has spent most."""
    uses = [
        HarvestView(budgets=(BudgetUse("tokens", used, 100),), cost_usd=cost) for used, cost in ((40, 1.0), (60, 2.0))
    ]
    both = combined(uses, 4, 1.0)
    assert both.budgets == (BudgetUse("tokens", 60, 100),)
    assert both.cost_usd == 3.0
