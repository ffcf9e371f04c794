"""scripts/slurm without Slurm: --local serves and harvests with real processes; what each rank would run is printed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.cards import load_teacher

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "scripts" / "slurm"
SERVER = ROOT / "tests" / "engines" / "misbehaving_server.py"
SECRET = "sk-never-to-be-printed-1234"
RECIPE = """
kind: recipe
description: sums
seed: 3
teacher: tiny
student: tiny
problems: {train: [{jsonl: {path: sums.jsonl, prompt: q, answer: a, domain: d, licence: mit, verifier: math}}]}
harvest: {samples_per_problem: 2, max_new_tokens: 256, verify_workers: 1}
endpoint: {max_in_flight: 8, give_up_seconds: 20}
curation: [verified]
training: {learning_rate: 1.0e-3, num_train_epochs: 1, max_length: 288}
evaluation: {tasks: [tiny], samples_per_item: 1}
gate: quickstart
"""


@pytest.fixture
def port() -> int:
    """The first of two free ports in a row."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            number = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", number + 1))
            except (OSError, OverflowError):
                continue
            return number


@pytest.fixture
def start(tmp_path, port):
    """Starts harvest.sh --local on servers of sums that take `seconds` a request; all ends with the test."""
    processes = []

    def started(problems: int, *, seconds: float = 0.0, replicas: str = "2", **environment: str):
        rows = [{"q": f"{at}+1", "a": str(at + 1)} for at in range(problems)]
        (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "recipe.yaml").write_text(RECIPE)
        settings = f'"{{\\"port\\": $PORT, \\"seconds\\": {seconds}, \\"key\\": \\"{SECRET}\\", \\"echo\\": true}}"'
        environment = {
            "ENGINE": "command", "COMMAND": f"{shlex.quote(sys.executable)} {SERVER} {settings}", "PORT": str(port),
            "HEALTH_POLL_SECONDS": "0.2", "HEALTH_SECONDS": "60", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT),
            "DISTILL_API_KEY": SECRET, "STOP_SECONDS": "5", **environment,
        }  # fmt: skip
        command = ["bash", str(SLURM / "harvest.sh"), "--local", replicas, tmp_path / "recipe.yaml", tmp_path / "run"]
        process = subprocess.Popen(
            [*command, "--json"], env={**os.environ, **environment}, cwd=tmp_path, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        return process

    yield started
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def samples(folder: Path) -> int:
    try:
        with sqlite3.connect(f"file:{folder}/run/ledger.db?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM samples").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=100)
    assert SECRET not in out + err
    return out, err


def test_two_servers_are_harvested_and_stopped(start, port, tmp_path):
    process = start(20)
    out, err = ended(process)
    assert process.returncode == 0, err
    figures = json.loads(out)
    assert (figures["samples"], figures["accepted"]) == (40, 40)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    completed = {each["url"]: each["completed"] for each in record["harvest"]["endpoint"]["replicas"]}
    assert set(completed) == {f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{port + 1}/v1"}
    assert min(completed.values()) > 0
    assert is_free(port) and is_free(port + 1)
    assert not [path for path in (tmp_path / "run" / "servers").iterdir() if SECRET in path.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("router", ["vllm", "sglang"])
def test_the_router_of_the_engine(router, start, port, tmp_path):
    """The real routers, where their packages (vllm-router, sglang-router) are installed, in $ROUTER_PYTHON or here."""
    python = os.environ.get("ROUTER_PYTHON", sys.executable)
    module = {"vllm": "vllm_router", "sglang": "sglang_router"}[router]
    if subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no {module}")
    process = start(20, ROUTER=router, ROUTER_COMMAND=f"{python} -m {module}.launch_router", ROUTER_PORT=str(port + 2))
    out, err = ended(process)
    assert process.returncode == 0, err
    assert json.loads(out)["accepted"] == 40
    record = json.loads((tmp_path / "run" / "run.json").read_text())["harvest"]["endpoint"]
    assert [(each["url"], each["model"]) for each in record["probes"]] == [
        (f"http://127.0.0.1:{port + 2}/v1", "tiny-served")
    ]
    assert is_free(port) and is_free(port + 2)


def test_the_signal_before_the_time_limit_saves_and_the_next_job_goes_on(start, port, tmp_path):
    process = start(40, seconds=0.25)
    give_up_at = time.monotonic() + 60
    while samples(tmp_path) < 12 and time.monotonic() < give_up_at:
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)  # to the script alone, as --signal=B:USR1 does
    _, err = ended(process)
    assert process.returncode == 143, err
    assert "received SIGUSR1" in err and "the same command goes on" in err
    assert "everything finished so far is saved" in err
    assert is_free(port) and is_free(port + 1)
    kept = samples(tmp_path)
    assert 12 <= kept < 80
    again = start(40)
    out, err = ended(again)
    assert again.returncode == 0, err
    assert json.loads(out)["samples_from_ledger"] == kept
    assert samples(tmp_path) == 80


def test_a_server_that_ends_stops_the_others(start, port, tmp_path):
    command = f"{sys.executable} -c 'import time, os; port = int(os.environ[\"PORT\"]); time.sleep(1); exit(port % 2)'"
    process = start(4, COMMAND=command)
    _, err = ended(process)
    assert process.returncode == 6
    assert "ended before it served anything" in err
    assert not (tmp_path / "run" / "ledger.db").exists()


def test_a_server_that_never_answers(start, port):
    process = start(4, COMMAND="sleep 1000", HEALTH_SECONDS="1")
    _, err = ended(process)
    assert process.returncode == 6
    assert "did not answer" in err and "HEALTH_SECONDS" in err


def rank(number: int, **environment: str) -> str:
    done = subprocess.run(
        ["bash", str(SLURM / "serve_rank.sh")],
        env={**os.environ, "DRY_RUN": "1", "SLURM_PROCID": str(number), "PORT": "8000", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_deepseek_r1_on_two_nodes(engine):
    """The card's command, and the flags of two nodes as the engines' documentation has them."""
    (serving,) = [each for each in load_teacher("deepseek-r1").serving if (each.engine, each.nodes) == (engine, 2)]
    given = {"ENGINE": engine, "COMMAND": serving.command, "NODES": "2", "HEAD": "node1"}
    first, second = rank(0, **given), rank(1, **given)
    if engine == "vllm":
        assert "--tensor-parallel-size 8 --pipeline-parallel-size 2" in first
        place = "--nnodes 2 --node-rank {} --master-addr node1 --master-port 18000 --distributed-executor-backend mp"
        assert first == f"{serving.command} {place.format(0)} --host 0.0.0.0 --port 8000"
        assert second == f"{serving.command} {place.format(1)} --headless"
    else:
        assert "--tp 16" in first
        place = "--nnodes 2 --node-rank {} --dist-init-addr node1:18000 --host 0.0.0.0 --port 8000"
        assert (first, second) == (f"{serving.command} {place.format(0)}", f"{serving.command} {place.format(1)}")
    alone = rank(0, ENGINE=engine, COMMAND="serve", SERVE_PREFIX="apptainer exec --nv image.sif")
    assert alone == "apptainer exec --nv image.sif serve --host 0.0.0.0 --port 8000"


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["tiny/quickstart", "run"], {}, "not a Slurm job"),
        (["--local", "none", "tiny/quickstart", "run"], {}, "expected a number of replicas, found 'none'"),
        (["--local", "1", "tiny/quickstart"], {}, "expected RECIPE and OUT"),
        (["--local", "1", "tiny/quickstart", "run"], {"TEACHER": "deepsek-r1"}, "did you mean 'deepseek-r1'?"),
        (["--local", "1", "tiny/quickstart", "run"], {"ENGINE": "transformers"}, "ROUTER: expected vllm, sglang"),
        (["--local", "1", "tiny/quickstart", "run"], {"TEACHER": "tiny", "ENGINE": "sglang"}, "it has"),
        (["--local", "1", "tiny/quickstart", "run"], {"DISTILL_ROOT": "/nowhere"}, "has no scripts/slurm"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, environment, message, tmp_path):
    done = subprocess.run(
        ["bash", str(SLURM / "harvest.sh"), *arguments],
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **environment},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
