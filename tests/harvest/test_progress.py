"""The live view: what the panel says, the plain lines of a harvest that no terminal shows, and stderr only."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from distill.engines.figures import EngineFigures
from distill.harvest import progress
from distill.harvest.progress import BudgetUse, HarvestView, Outlook, describe, live_progress, panel, short_time
from distill.harvest.runner import harvest

VIEW = HarvestView(
    problems=3000, started=1500, settled=1250, settled_from_ledger=50, samples=4003, samples_from_ledger=200,
    tokens=12_000_000, new_tokens=11_000_000, verified=4000, accepted=3000, verifier_errors=2, cost_usd=36.0,
    seconds=1000.0, budgets=(BudgetUse("tokens", 12e6, 48e6), BudgetUse("dollars", 36.0, 40.0)),
    engine=EngineFigures(250, 256, {"rate_limited": 12, "reset": 0}), errors={"content_filter": 1},
)  # fmt: skip


def drawn(view: HarvestView, left: tuple[float, str] | None, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(panel("harvest deepseek-r1", view, left))
    return console.export_text()


def test_every_figure_is_on_the_panel():
    text = drawn(VIEW, (5400.0, "problems"))
    for words in (
        "harvest deepseek-r1", "1,250 settled, 250 open, 3,000 in all", "about 1 h 30 min", "250 busy of 256",
        "11,000 tokens/s, 4003 samples (200 from the ledger)",
        "3,000 of 4,000 verified: 75.0% accepted (73.6% to 76.3%)",
        "4000 tokens ($0.012) per accepted trace", "25% of 4.8e+07 tokens, 90% of 40 dollars",
        "content_filter 1, rate_limited 12, verifier 2", "17 min",
    ):  # fmt: skip
        assert words in text, text
    assert "reset" not in text


def test_a_panel_of_nothing_yet():
    text = drawn(HarvestView(problems=7), None)
    for words in ("0 settled, 7 in all", "not known yet", "none verified yet", "nothing accepted yet", "none"):
        assert words in text
    assert "slots" not in text and "budget" not in text


@pytest.mark.parametrize("width", [30, 60, 200])
def test_it_fits_the_terminal(width):
    assert max(map(len, drawn(VIEW, (60.0, "tokens"), width).splitlines())) <= width


def test_the_plain_line_says_the_same():
    line = describe(VIEW, (130.0, "dollars"))
    for words in (
        "1250/3000 problems settled, 250 open, 4003 samples (200 from the ledger), 250/256 slots, 11000 tokens/s",
        "75.0% accepted (73.6% to 76.3%), 4000 tokens ($0.012) per accepted trace",
        "budget 25% of 4.8e+07 tokens, 90% of 40 dollars, errors content_filter 1, rate_limited 12, verifier 2",
        "about 2 min left until the dollars are used up",
    ):
        assert words in line


@pytest.mark.parametrize(
    ("engine", "seconds"), [(None, 900.0), (EngineFigures(10, 10), 800.0 + 100 * (7381 / 2520) ** 0.5)]
)
def test_open_problems_that_wait_for_a_slot_are_no_tail(engine, seconds):
    """100 problems open from the start, one settled every 10 s: by slots; where none are told, one by one."""
    outlook = Outlook()
    for settled in range(11):
        view = HarvestView(problems=100, started=100, settled=settled, seconds=10.0 * settled, engine=engine)
        outlook.observe(view)
    assert outlook.seconds_left(view) == (pytest.approx(seconds), "problems")


def test_a_budget_may_end_it_first():
    """Spent at the rate since this process began, not since the run did."""
    outlook = Outlook()
    for seconds, used, settled in [(0.0, 30.0, 0), (50.0, 31.0, 50), (100.0, 32.0, 100)]:
        view = HarvestView(
            problems=10_000,
            started=settled + 1,
            settled=settled,
            seconds=seconds,
            budgets=(BudgetUse("dollars", used, 40.0),),
        )
        outlook.observe(view)
    assert outlook.seconds_left(view) == (pytest.approx(400.0), "dollars")


def test_lines_on_stderr(engine, ledger, problems, settings, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with live_progress("harvest") as show:
        harvest(engine(), ledger, problems(2), **settings, progress=show)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0].startswith("harvest: 0/2 problems settled, 2 open, 0/8 samples")
    assert lines[-1].startswith("harvest: 2/2 problems settled, 0 open, 8/8 samples")
    assert "25.0% accepted (7.1% to 59.1%), 10 tokens per accepted trace" in lines[-1]
    assert lines[-1].endswith("about 0 s left")


def test_a_short_harvest_says_one_line(engine, ledger, problems, settings, capsys):
    with live_progress("harvest") as show:
        harvest(engine(), ledger, problems(2), **settings, progress=show)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_last_figures_are_said_of_an_interrupted_harvest(engine, ledger, problems, settings, capsys):
    with pytest.raises(KeyboardInterrupt), live_progress("harvest") as show:
        harvest(engine(stop_after=5), ledger, problems(2), **settings, progress=show)
    assert capsys.readouterr().err.startswith("harvest: ")


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.4, "3 s"), (120, "2 min"), (5400, "1 h 30 min"), (200_000, "2 days 8 h")]
)
def test_times_in_words(seconds, words):
    assert short_time(seconds) == words
