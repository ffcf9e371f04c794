"""The embedded pair at toy size through `python -m distill`: a catalogue of its own, and one finished run to share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import gate_world

recorded, shelf = gate_world.recorded, gate_world.shelf  # fixtures of the gate's tests

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 600
SHELF = {
    "students/toy/quick.yaml": """
kind: recipe
description: The embedded pair at toy size.
seed: 3
teacher: tiny
student: tiny
problems:
  train:
    - gym: {family: products, size: 10, seed: 101, config: {min_digits: 2, max_digits: 2}}
    - gym: {family: spell_backward, size: 12, seed: 104, config: {min_word_len: 3, max_word_len: 8}}
    - gym: {family: gcd, size: 12, seed: 105, config: {min_value: 10, max_value: 99}}
    - gym: {family: count_bits, size: 10, seed: 106, config: {max_n: 9999}}
    - gym: {family: gcd, size: 5, seed: 20260001, config: {min_value: 10, max_value: 99}}  # held out below
harvest: {samples_per_problem: 1, batch_size: 16, max_new_tokens: 256, verify_workers: 1}
curation:
  - verified
  - closed_reasoning
  - truncation
  - repetition: {ngram_words: 8, min_occurrences: 6}
  - exact_duplicates
  - decontaminate
  - max_per_problem: {max_traces: 2}
training: {learning_rate: 1.0e-3, num_train_epochs: 2, max_length: 288, rows_per_micro_batch: 1, save_every_steps: 2}
evaluation: {tasks: [toy], samples_per_item: 2, batch_size: 16, base_max_new_tokens: 64}
gate: toy
""",
    "eval/tasks/toy.yaml": """
task: toy
class: !function distill.evaluate.problem_task.ProblemTask
metadata:
  version: 1.0
  problems:
    - gym: {family: gcd, size: 5, seed: 20260001, config: {min_value: 10, max_value: 99}}
    - gym: {family: spell_backward, size: 5, seed: 20260001, config: {min_word_len: 3, max_word_len: 8}}
""",
    "eval/gates/toy.yaml": """
kind: gate
name: toy
description: The quickstart's comparisons on the toy task.
tasks: [toy]
comparisons:
  - {against: teacher, ratio: 0.85}
  - {against: base, ratio: 3.0}
validity: {max_truncation_rate: 0.9}
""",
}


def is_gone(group: int, seconds: float = 5.0) -> bool:
    """No process of the group is left; whoever inherits the last one needs a moment to reap it."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def heeds_interrupts() -> None:
    """A shell starts its background jobs with SIGINT ignored, and so their children, these tests among them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class CommandLine:
    """`distill` with a catalogue, in a process of its own."""

    shelf: Path

    def arguments(self, *given: object) -> list[str]:
        return [sys.executable, "-m", "distill", "--catalog", str(self.shelf), *map(str, given)]

    def start(self, *given: object) -> subprocess.Popen[str]:
        """In a process group of its own, so that a signal can go to all of it, as a terminal's Ctrl-C does."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        return subprocess.Popen(
            self.arguments(*given),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.shelf,
            start_new_session=True,
            preexec_fn=heeds_interrupts,
        )

    def __call__(self, *given: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*given)
        try:
            out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def interrupt(
        self, when: Callable[[], bool], number: signal.Signals, *given: object, group: bool = False
    ) -> tuple[int, str]:
        """Run until `when()`, send the signal; the exit code (0 or more if it ended before) and stderr.

        With `group`, its children get the signal too, and must all be gone soon afterwards.
        """
        process = self.start(*given)
        give_up_at = time.monotonic() + TIMEOUT_SECONDS
        while process.poll() is None and not when() and time.monotonic() < give_up_at:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, number) if group else process.send_signal(number)
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
        if group:
            assert is_gone(process.pid), "a child is left"
        return process.returncode, err


@pytest.fixture(scope="session")
def distill(tmp_path_factory) -> CommandLine:
    shelf = tmp_path_factory.mktemp("shelf")
    for name, text in SHELF.items():
        path = shelf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip(), encoding="utf-8")
    return CommandLine(shelf)


@dataclass(frozen=True)
class FinishedRun:
    """A run directory and what the command said; tests read it and copy it, none writes in it."""

    directory: Path
    done: subprocess.CompletedProcess[str]

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.directory / "run.json").read_text())

    def copy(self, target: Path, *without: str) -> Path:
        shutil.copytree(self.directory, target, ignore=shutil.ignore_patterns(*without))
        return target


@pytest.fixture(scope="session")
def toy_run(distill, tmp_path_factory) -> FinishedRun:
    """`distill run toy/quick --json`, uninterrupted."""
    directory = tmp_path_factory.mktemp("toy") / "run"
    done = distill("run", "toy/quick", "--out", directory, "--json")
    assert done.returncode in (0, 3, 4, 5), done.stderr
    return FinishedRun(directory, done)


def rows(directory: Path, query: str) -> list[tuple[Any, ...]]:
    """What SQL finds in a run directory's ledger; nothing where there is none yet."""
    path = directory / "ledger.db"
    if not path.exists():
        return []
    connection = sqlite3.connect(path, timeout=30)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:  # made, and its tables not yet
        return []
    finally:
        connection.close()


@pytest.fixture(scope="session")
def query() -> Callable[[Path, str], list[tuple[Any, ...]]]:
    return rows


TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """Starts a server, a process of its own, with settings; gives its port."""
    processes = []

    def started(script: str = "engines/misbehaving_server.py", **settings: Any) -> int:
        command = [sys.executable, str(TESTS / script), json.dumps(settings)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return int(processes[-1].stdout.readline())

    yield started
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def stats(port: int) -> dict[str, Any]:
    """What a server started by `start` has served."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=30) as reply:
        return json.load(reply)


@pytest.fixture
def served() -> Callable[[int], dict[str, Any]]:
    return stats


@pytest.fixture
def refused(distill):
    """Runs a command that must be refused; gives its message."""

    def check(*arguments: object, code: int = 2) -> str:
        done = distill(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        before, _, message = done.stderr.partition("error: ")
        assert message, done.stderr
        assert "error: " not in message
        assert not before or before.endswith("\n")
        assert message.isascii()
        return message

    return check
