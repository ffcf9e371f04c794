"""`distill harvest` from the embedded teacher in a real vLLM, killed and resumed; then an evaluation there.

DISTILL_VLLM_PYTHON=/path/to/venv/bin/python bash scripts/test.sh --slow tests/e2e/test_harvest_vllm.py
Without it `scripts/serve_tiny_teacher.sh` makes an environment for vLLM, which takes minutes: then set DISTILL_VLLM=1.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def vllm() -> Iterator[str]:
    """The base URL of a vLLM that serves the embedded teacher."""
    if not os.environ.get("DISTILL_VLLM_PYTHON") and not os.environ.get("DISTILL_VLLM"):
        pytest.skip("no vLLM: set DISTILL_VLLM_PYTHON to an interpreter that has it, or DISTILL_VLLM=1 to install it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bash", "scripts/serve_tiny_teacher.sh", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()  # empty where it ended
        assert url == f"http://127.0.0.1:{port}/v1"
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.stdout.close()
        assert process.wait(60) in (143, -signal.SIGTERM)


@pytest.mark.slow
def test_harvest_killed_and_resumed(distill, query, vllm, tmp_path):
    """Killed while samples are half way: what is on disk of them is gone on from, nothing is drawn twice."""
    out = tmp_path / "run"
    settings = ["endpoint.max_in_flight=8", "endpoint.save_partial_seconds=0.3", "problems.train.0.gym.size=40"]
    sets = [part for setting in settings for part in ("--set", setting)]
    command = ["harvest", "toy/quick", "--out", out, *sets, "--base-url", vllm]
    enough = lambda: (  # noqa: E731
        len(query(out, "SELECT 1 FROM samples")) >= 8 and len(query(out, "SELECT DISTINCT key FROM pieces")) >= 4
    )
    code, err = distill.interrupt(enough, signal.SIGKILL, *command)
    assert code == -signal.SIGKILL, err
    kept = dict(query(out, "SELECT key, text FROM samples"))
    partial = dict(query(out, "SELECT key, sum(num_tokens) FROM pieces GROUP BY key"))
    assert partial and not partial.keys() & kept.keys()
    done = distill(*command, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["samples_from_ledger"] == len(kept) >= 8
    found = query(out, "SELECT key, text FROM samples")
    assert len(found) == len(dict(found)) == figures["samples"]
    assert kept.items() <= dict(found).items()
    assert query(out, "SELECT count(*) FROM pieces") == [(0,)]
    spliced = dict(query(out, "SELECT key, splices FROM samples WHERE splices <> '[]'"))
    assert spliced and spliced.keys() <= partial.keys()  # those past their thought may have started anew
    record = json.loads((out / "run.json").read_text())["harvest"]["endpoint"]
    assert record["continued"]["completions"] >= len(spliced)
    assert 0 < record["continued"]["tokens_not_drawn_again"] <= sum(partial.values())
    probe = record["probes"][0]
    assert (probe["usage"], probe["context_tokens"], probe["n"]) == (True, 1024, True)
    assert probe["continues"].startswith("thoughts (completions)")
    assert figures["accepted"] > figures["samples"] / 2  # the teacher is right about its own families


@pytest.mark.slow
def test_evaluation(distill, vllm, tmp_path):
    done = distill("eval", "toy", "--out", tmp_path / "run", "--base-url", vllm, "--model", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "tiny"
