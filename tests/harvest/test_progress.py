"""The plain lines of a harvest that no terminal shows."""

from __future__ import annotations

from distill.harvest import progress
from distill.harvest.progress import live_progress
from distill.harvest.runner import harvest


def test_lines_on_stderr(engine, ledger, problems, settings, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with live_progress("harvest") as show:
        harvest(engine(), ledger, problems(2), **settings, progress=show)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[-1].startswith("harvest: 2/2 problems, 8 samples, ")
    assert "25.0% accepted" in lines[-1]


def test_a_short_harvest_says_one_line(engine, ledger, problems, settings, capsys):
    with live_progress("harvest") as show:
        harvest(engine(), ledger, problems(2), **settings, progress=show)
    assert len(capsys.readouterr().err.splitlines()) == 1
