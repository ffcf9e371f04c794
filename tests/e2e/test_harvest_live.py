"""What a terminal shows of `distill harvest`, in a pseudo-terminal, against a server; and that --json is left alone."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from pathlib import Path

import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def port(start):
    return start(seconds=0.3, noise=0.1)


def in_a_terminal(arguments: list[str], *, columns: int, **more: str) -> tuple[int, str, str]:
    """(exit code, stdout, what the terminal on stderr got), the escape sequences taken out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            shown.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=300)
    reader.join(30)
    os.close(ours)
    return process.returncode, out.decode(), ESCAPES.sub("", b"".join(shown).decode())


@pytest.fixture
def command(distill, port, tmp_path):
    """A harvest of 12 sums with 2 samples each."""
    rows = [{"q": f"{at}+1", "a": str(at + 1)} for at in range(12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "sums.jsonl"
    source = f"{{path: {path}, prompt: q, answer: a, domain: d, licence: mit, verifier: math}}"
    settings = [f"problems.train=[{{jsonl: {source}}}]", "harvest.samples_per_problem=2", "endpoint.max_in_flight=4"]
    sets = [part for setting in settings for part in ("--set", setting)]
    out = ["--out", tmp_path / "run", "--base-url", f"http://127.0.0.1:{port}"]
    return distill.arguments("harvest", "toy/quick", *out, *sets)


def test_the_panel_and_one_json_object(command):
    code, out, shown = in_a_terminal([*command, "--json"], columns=100)
    assert code == 0, shown
    assert json.loads(out)["accepted"] == 24
    redraws = re.findall(r"speed +[\d,]+ tokens/s, (\d+)", shown)
    assert len(redraws) > 3 and int(redraws[0]) < 24 == int(redraws[-1]), redraws
    last = shown[shown.rindex("problems ") :]
    assert "12 settled" in last and "12 in all" in last
    assert "24 of 24 verified: 100.0% accepted (86.2% to 100.0%)" in last
    assert "tokens per accepted trace" in last
    assert max(len(line) for line in shown.replace("\r", "\n").splitlines() if "│" in line) <= 100


def test_the_funnel_of_a_killed_harvest(command, distill, query, tmp_path):
    """`distill report` says how far it came; after the harvest is over, that of all problems."""
    arguments = command[command.index("harvest") :]
    settled = lambda: len(query(tmp_path / "run", "SELECT 1 FROM yields")) >= 3  # noqa: E731
    code, err = distill.interrupt(settled, signal.SIGKILL, *arguments)
    assert code == -signal.SIGKILL, err
    done = distill("report", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    some = {step["step"]: step["samples"] for step in json.loads(done.stdout)["funnel"]["steps"]}
    assert 6 <= some["samples"] == some["verified"] < 24
    assert distill(*arguments).returncode == 0
    every = json.loads(distill("report", tmp_path / "run", "--json").stdout)["funnel"]
    assert [step["samples"] for step in every["steps"][:4]] == [24] * 4
    assert every["problems"] == 12


def test_a_dumb_terminal_gets_lines(command):
    code, out, shown = in_a_terminal(command, columns=80, TERM="dumb")
    assert code == 0, shown
    assert "│" not in shown
    assert "harvest: 12/12 problems settled, 0 open, 24/24 samples" in shown
    assert out.splitlines()[-1].startswith("harvest: 24 samples of 12 problems")
