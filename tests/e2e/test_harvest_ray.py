"""`distill harvest --executor ray` on real clusters: a worker killed, a node killed, the driver stopped, none there."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SERVER = Path(__file__).resolve().parents[1] / "engines" / "misbehaving_server.py"
SECRET = "sk-never-to-be-written-0815"
IN_FLIGHT = 8
PROBES = 2 * 10  # of two workers
KEYS_AND_TEXTS = "SELECT key, text FROM samples"
WORKER_TITLE = "ray::MapWorker"


@pytest.fixture
def ray_folder(monkeypatch) -> Iterator[Path]:
    """Where Ray writes, sockets included: their paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    for name, value in {
        "RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
        "DISTILL_API_KEY": SECRET, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SERVER.parents[2]),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def two_nodes(ray_folder, monkeypatch) -> Iterator[Callable[[], None]]:
    """A cluster of two raylets, one CPU each, at RAY_ADDRESS; gives what kills the second with all its workers."""
    from ray.cluster_utils import Cluster

    on_sigterm = signal.getsignal(signal.SIGTERM)
    (ray_folder / "ray").mkdir()
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        second = cluster.add_node(**node)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield lambda: cluster.remove_node(second, allow_graceful=False)
    finally:
        cluster.shutdown()
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray put its own there


@pytest.fixture
def server() -> Iterator[int]:
    """An endpoint that wants the key and takes 0.2 s a request; its port."""
    settings = json.dumps({"seconds": 0.2, "key": SECRET, "echo": True})
    process = subprocess.Popen([sys.executable, str(SERVER), settings], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait()


def served(port: int) -> Counter[str]:
    """How often each (prompt, seed) was answered in full."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=30) as reply:
        return Counter(json.load(reply)["by_request"])


def sums(folder: Path, count: int, out: str, port: int) -> list[str]:
    """A harvest of `count` sums, three samples each, from the endpoint, into `folder / out`."""
    path = folder / "sums.jsonl"
    path.write_text("".join(json.dumps({"q": f"{at}+1", "a": str(at + 1)}) + "\n" for at in range(count)))
    source = f"{{path: {path}, prompt: q, answer: a, domain: d, licence: mit, verifier: math}}"
    sets = [
        f"problems.train=[{{jsonl: {source}}}]", "harvest.samples_per_problem=3", "executor.problems_per_task=10",
        f"endpoint.max_in_flight={IN_FLIGHT}", "endpoint.give_up_seconds=20",
    ]  # fmt: skip
    url = ["--base-url", f"http://127.0.0.1:{port}/v1"]
    return ["harvest", "toy/quick", "--out", str(folder / out), *url, *(p for s in sets for p in ("--set", s))]


def workers_of(folder: Path) -> dict[int, str]:
    """Worker processes of the cluster that writes below `folder`: process id -> title."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (process / "environ").read_bytes() if process.name.isdigit() else b""
        except OSError:
            continue
        if command.startswith("ray::") and f"RAY_TMPDIR={folder}".encode() in environment:
            found[int(process.name)] = command
    return found


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 300.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up_at, "took too long"
        time.sleep(0.02)


def finished(process: subprocess.Popen[str], seconds: float = 560.0) -> dict[str, Any]:
    """The result of a run with --json."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return json.loads(out)


def test_a_worker_killed_half_way(distill, query, ray_folder, tmp_path):
    """The embedded teacher in two workers, one killed -9: everything once, as the local executor draws it."""
    sets = ["--set", "harvest.samples_per_problem=4", "--set", "harvest.batch_size=8"]
    local = distill("harvest", "toy/quick", "--out", tmp_path / "local", *sets, "--json")
    assert local.returncode == 0, local.stderr
    sets += ["--set", "executor.workers=2", "--set", "executor.problems_per_task=6"]
    run = tmp_path / "ray"
    process = distill.start("harvest", "toy/quick", "--out", run, "--executor", "ray", *sets, "--json")
    wait_until(lambda: len(query(run, KEYS_AND_TEXTS)) >= 40, process)
    victims = [pid for pid, title in workers_of(ray_folder).items() if title.startswith(WORKER_TITLE)]
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGKILL)
    before = dict(query(run, KEYS_AND_TEXTS))
    figures = finished(process)
    expected = json.loads(local.stdout)
    assert len(before) < figures["samples"] == expected["samples"] == 4 * 44
    found, reference = dict(query(run, KEYS_AND_TEXTS)), dict(query(tmp_path / "local", KEYS_AND_TEXTS))
    assert found.keys() == reference.keys()
    assert len(query(run, KEYS_AND_TEXTS)) == len(found)
    assert before.items() <= found.items()
    same = sum(found[key] == text for key, text in reference.items())
    assert same >= 0.97 * len(reference)  # a batch of other rows rounds differently, and may tip a token
    for directory in (run, tmp_path / "local"):
        done = distill("curate", "toy/quick", "--out", directory, *sets[:4], "--json")
        assert done.returncode == 0, done.stderr
    assert len(list((run / "dataset").glob("train-*.parquet"))) == 1


def test_a_node_killed_half_way(distill, query, ray_folder, two_nodes, server, tmp_path):
    """Two raylets, an endpoint: nothing finished is asked for again, and the key is written nowhere."""
    count, run = 60, tmp_path / "run"
    process = distill.start(*sums(tmp_path, count, "run", server), "--executor", "ray", "--json")
    wait_until(lambda: len(query(run, KEYS_AND_TEXTS)) >= count * 3 // 2, process)
    two_nodes()
    known = {seed for (seed,) in query(run, "SELECT seed FROM samples")}
    served_before = served(server)
    figures = finished(process)
    assert (figures["samples"], figures["accepted"]) == (3 * count, 3 * count)
    rows = query(run, 'SELECT problem_id, "index", seed FROM samples')
    assert len(rows) == len(set(rows)) == 3 * count
    after = Counter({identity: n for identity, n in served(server).items() if int(identity.split("|")[1]) in known})
    assert after == Counter({identity: n for identity, n in served_before.items() if identity in after})
    drawn = Counter({identity: n for identity, n in served(server).items() if "+1|" in identity})
    seeds = {seed for _, _, seed in rows}
    twice = sum(n - 1 for identity, n in drawn.items() if int(identity.split("|")[1]) in seeds)
    assert twice <= IN_FLIGHT // 2 + PROBES, "more than what one worker had in flight, and its probes"

    local = finished(distill.start(*sums(tmp_path, count, "local", server), "--json"))
    assert local["samples"] == figures["samples"]
    assert dict(query(tmp_path / "local", KEYS_AND_TEXTS)) == dict(query(run, KEYS_AND_TEXTS))
    written = [path for folder in (run, ray_folder) for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    done = distill(
        "curate", *sums(tmp_path, count, "run", server)[1:4], *sums(tmp_path, count, "run", server)[6:], "--json"
    )
    assert done.returncode == 0, done.stderr


def test_sigterm_saves_and_the_same_command_continues(distill, query, ray_folder, server, tmp_path):
    run, command = (
        tmp_path / "run",
        [*sums(tmp_path, 60, "run", server), "--executor", "ray", "--set", "executor.workers=2"],
    )
    process = distill.start(*command, "--json")
    wait_until(lambda: len(query(run, KEYS_AND_TEXTS)) >= 40, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 143, err
    assert "everything finished so far is saved" in err
    wait_for = time.monotonic() + 20
    while workers_of(ray_folder) and time.monotonic() < wait_for:
        time.sleep(0.1)
    assert not workers_of(ray_folder), "workers are left"
    kept = dict(query(run, KEYS_AND_TEXTS))
    answered = sum(n for identity, n in served(server).items() if "+1|" in identity)
    assert 40 <= len(kept) < 180 and len(kept) >= answered - IN_FLIGHT - PROBES
    figures = finished(distill.start(*command, "--json"))
    assert (figures["samples"], figures["samples_from_ledger"]) == (180, len(kept))
    assert kept.items() <= dict(query(run, KEYS_AND_TEXTS)).items()


def test_a_budget_over_two_workers(distill, query, ray_folder, server, tmp_path):
    """Ends near it, although the workers hear of each other once a second; then goes on with a larger one."""
    command = [*sums(tmp_path, 60, "run", server), "--executor", "ray", "--set", "executor.workers=2"]
    done = distill(*command, "--set", "harvest.budget.tokens=400")
    assert done.returncode == 6, done.stderr
    assert "budget.tokens" in done.stderr and "Traceback" not in done.stderr
    (spent,) = query(tmp_path / "run", "SELECT sum(completion_tokens) FROM samples")[0]
    assert 400 <= spent <= 400 + 2 * 5 * IN_FLIGHT * 5, "five tokens a sample, five rounds of 0.2 s a second"
    assert finished(distill.start(*command, "--json"))["samples"] == 180


def test_no_cluster_at_the_address(distill, ray_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    done = distill("harvest", "toy/quick", "--out", tmp_path / "run", "--executor", "ray")
    assert done.returncode == 6, done.stderr
    assert "no cluster at RAY_ADDRESS=127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_teacher_that_the_workers_cannot_load(distill, ray_folder, tmp_path):
    """The worker's error is the driver's one message."""
    command = ["harvest", "toy/quick", "--out", tmp_path / "run", "--executor", "ray"]
    done = distill(*command, "--set", "harvest.max_new_tokens=100000")
    assert done.returncode == 2, done.stderr
    assert "lower max_new_tokens" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_ends_every_worker(ray_folder, tmp_path):
    """Ray would start them again for ever."""
    from distill.errors import InfrastructureError
    from distill.harvest.ray_executor import harvest_on_ray
    from distill.harvest.ray_worker import Work
    from distill.recipes import Executor
    from distill.records import Problem

    on_sigterm = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InfrastructureError, match="block 0 ended its worker 5 times"):
        harvest_on_ray(
            Work(functools.partial(os._exit, 7), None, None, None, 0),  # type: ignore[arg-type]
            tmp_path / "ledger.db",
            [Problem("p", "1+1", "2", "exact", "sums", "sums", "test", "mit")],
            settings=Executor(workers=1),
            on_teacher=lambda fingerprint, can_continue: None,
        )
    assert signal.getsignal(signal.SIGTERM) is on_sigterm


def test_a_server_that_is_down(distill, ray_folder, tmp_path):
    done = distill(*sums(tmp_path, 4, "run", 9), "--executor", "ray", "--set", "endpoint.give_up_seconds=3")
    assert done.returncode == 6, done.stderr
    assert "Traceback" not in done.stderr
