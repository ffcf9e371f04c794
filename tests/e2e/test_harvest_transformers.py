"""`distill harvest` from the embedded teacher in transformers' own OpenAI-compatible server (extra `serving`).

It lists only models of the hub's cache, so the folder is named with --model; it takes one request after the other.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.cards import load_teacher

START_SECONDS = 120
PROBLEMS = (
    "problems.train=[{gym: {family: spell_backward, size: 6, seed: 104, config: {min_word_len: 3, max_word_len: 8}}}]"
)
NEEDED = ("fastapi", "uvicorn", "openai")


@pytest.fixture
def served(tmp_path) -> Iterator[str]:
    """The base URL of `transformers serve`."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: pip install 'distill[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "hf" / "hub").mkdir(parents=True)  # it lists this folder, and fails where there is none
    command = [Path(sys.executable).with_name("transformers"), "serve", load_teacher("tiny").model_location]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


@pytest.mark.slow
def test_harvest(distill, query, served, tmp_path):
    out = tmp_path / "run"
    command = ["harvest", "toy/quick", "--out", out, "--set", PROBLEMS, "--set", "endpoint.max_in_flight=1"]
    done = distill(*command, "--base-url", served, "--model", load_teacher("tiny").model_location, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["samples"] == 6
    assert figures["accepted"] >= 3, figures  # the teacher is right about its own families
    rows = query(out, "SELECT reasoning, answer, finish_reason, prompt_tokens, completion_tokens FROM samples")
    assert len(rows) == 6 and all(row[0] and row[3] and row[4] for row in rows if row[2] == "stop")
    record = json.loads((out / "run.json").read_text())["harvest"]["endpoint"]
    assert (record["probes"][0]["reasoning"], record["probes"][0]["usage"]) == ("text", True)
    assert record["failures"] == {}
