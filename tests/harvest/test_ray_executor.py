"""Blocks, merged summaries and what is refused before any Ray runs; clusters are in tests/e2e/test_harvest_ray.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from distill.cli import main
from distill.errors import ProblemError
from distill.harvest.ray_executor import blocks_of, harvest_on_ray
from distill.harvest.ray_worker import Work
from distill.harvest.runner import harvest
from distill.harvest.summary import merged
from distill.recipes import Endpoint, Executor
from distill.store.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]


def test_blocks_hold_every_problem_once_in_order(problems):
    given = problems(10)
    blocks = blocks_of(given, 4)
    assert [len(block) for block in blocks] == [4, 4, 2]
    assert [problem for block in blocks for problem in block] == given


def test_equal_prompts_share_a_block(problems):
    """Else two workers would draw the same sample."""
    given = problems(5)
    twin = replace(given[0], id="twin")
    blocks = blocks_of([*given, twin], 2)
    assert [problem.id for problem in blocks[0]] == ["p0", "twin"]
    assert sum(len(block) for block in blocks) == 6


def test_merged_summaries_are_the_summary_of_the_whole(engine, problems, settings, tmp_path):
    def harvested(name, part):
        with Ledger.open(tmp_path / name, create=True) as ledger:
            return harvest(engine(), ledger, part, **settings)

    whole = harvested("whole.db", problems(5))
    parts = merged([harvested("a.db", problems(5)[:3]), harvested("b.db", problems(5)[3:])], seconds=2.0)
    assert parts.seconds == 2.0
    assert replace(parts, seconds=0, tokens_per_second=0) == replace(whole, seconds=0, tokens_per_second=0)


def test_each_worker_has_its_share_of_the_requests_in_flight():
    def opened(max_in_flight: int) -> int:
        work = Work(lambda settings: settings, Endpoint(max_in_flight=max_in_flight), None, None, 0)
        return work.open_engine(3).max_in_flight

    assert (opened(100), opened(2)) == (33, 1)
    assert Work(lambda: "local", None, None, None, 0).open_engine(3) == "local"


def test_no_problems():
    with pytest.raises(ProblemError, match=r"problems\.train"):
        harvest_on_ray(
            Work(lambda: None, None, None, None, 0), "x.db", [], settings=Executor(),
            on_teacher=lambda fingerprint, can_continue: None,
        )  # fmt: skip


def test_without_ray(tmp_path):
    code = "import sys; sys.modules['ray'] = None\nfrom distill.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["harvest", "tiny/quickstart", "--out", str(tmp_path / "run"), "--executor", "ray"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 2, done.stderr
    assert "pip install 'ray[data]'" in done.stderr
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr


def test_ray_client_is_refused(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert main(["harvest", "tiny/quickstart", "--out", str(tmp_path / "run"), "--executor", "ray"]) == 2
    assert "run distill on a node of the cluster" in capsys.readouterr().err


def test_an_unknown_executor(tmp_path, capsys):
    assert main(["harvest", "tiny/quickstart", "--out", str(tmp_path / "run"), "--executor", "slurm"]) == 2
