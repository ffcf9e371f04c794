"""`distill harvest` from the embedded teacher in a real vLLM, killed and resumed; then an evaluation there.

DISTILL_VLLM_PYTHON=/path/to/venv/bin/python bash scripts/test.sh --slow tests/e2e/test_harvest_vllm.py
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.cards import load_teacher

START_SECONDS = 600


@pytest.fixture(scope="module")
def vllm(tmp_path_factory) -> Iterator[str]:
    """The base URL of a vLLM that serves the embedded teacher."""
    python = os.environ.get("DISTILL_VLLM_PYTHON")
    if not python:
        pytest.skip("no vLLM: set DISTILL_VLLM_PYTHON to the interpreter of an environment that has it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("vllm")
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", load_teacher("tiny").model_location,
        "--dtype", "float32", "--max-model-len", "1024", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1.0)
    raise AssertionError(log.read_text()[-3000:])


@pytest.mark.slow
def test_harvest_killed_and_resumed(distill, query, vllm, tmp_path):
    command = [
        "harvest",
        "toy/quick",
        "--out",
        tmp_path / "run",
        "--set",
        "endpoint.max_in_flight=4",
        "--base-url",
        vllm,
    ]
    enough = lambda: len(query(tmp_path / "run", "SELECT 1 FROM samples")) >= 8  # noqa: E731
    code, err = distill.interrupt(enough, signal.SIGKILL, *command)
    assert code == -signal.SIGKILL, err
    kept = dict(query(tmp_path / "run", "SELECT key, text FROM samples"))
    done = distill(*command, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["samples_from_ledger"] == len(kept) >= 8
    found = query(tmp_path / "run", "SELECT key, text FROM samples")
    assert len(found) == len(dict(found)) == figures["samples"]
    assert kept.items() <= dict(found).items()
    assert figures["accepted"] > figures["samples"] / 2  # the teacher is right about its own families
    probe = json.loads((tmp_path / "run" / "run.json").read_text())["harvest"]["endpoint"]["probes"][0]
    assert (probe["usage"], probe["context_tokens"], probe["n"]) == (True, 1024, True)


@pytest.mark.slow
def test_evaluation(distill, vllm, tmp_path):
    done = distill("eval", "toy", "--out", tmp_path / "run", "--base-url", vllm, "--model", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "tiny"
