"""Several replicas: the least busy is asked, a dead one is left out and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from distill.engines.endpoint_replicas import ReplicaPool


def test_the_least_busy_replica_takes_the_next():
    import asyncio

    async def taken():
        pool = ReplicaPool(["a", "b"], 4)
        order = [(await pool.acquire()).url for _ in range(4)]
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
        pool.release(pool.replicas[1])
        return order, (await waiting).url

    order, fifth = asyncio.run(taken())
    assert sorted(order) == ["a", "a", "b", "b"]
    assert order[0] != order[1]
    assert fifth == "b"


def test_a_cancelled_wait_gives_its_slot_back():
    import asyncio

    async def slots():
        pool = ReplicaPool(["a"], 1)
        replica = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        pool.release(replica)  # hands the slot over, and the one that gets it is gone
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return replica.open

    assert asyncio.run(slots()) == 0


def test_work_is_shared_and_a_replica_may_die(start_server, open_endpoint, ask):
    first, second = start_server(seconds=0.2), start_server(seconds=0.2)
    engine = open_endpoint(first, second, max_in_flight=20)
    samples = []
    for sample in engine.sample(ask([f"{at}+1" for at in range(200)])):
        samples += [sample] if sample else []
        if len(samples) == 60:
            second.kill()
    assert len({sample.key for sample in samples}) == len(samples) == 200
    one, two = engine.report()["replicas"]
    assert one["completed"] + two["completed"] == 200
    assert 10 <= two["completed"] <= 80
    assert (one["deaths"], two["deaths"] >= 1) == (0, True)


def test_a_replica_comes_back(start_server, open_endpoint, ask):
    first, second = start_server(seconds=0.2), start_server(seconds=0.2)
    engine = open_endpoint(first, second, max_in_flight=8)
    samples, before = 0, None
    for sample in engine.sample(ask([f"{at}+1" for at in range(200)])):
        samples += sample is not None
        if samples == 20:
            second.kill()
        if samples == 60 and before is None:
            command = [sys.executable, second.process.args[1], json.dumps({"seconds": 0.2, "port": second.port})]
            second.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            before = engine.report()["replicas"][1]["completed"]
    assert samples == 200
    assert engine.report()["replicas"][1]["completed"] > before + 5


def test_a_replica_that_closes_every_connection_is_left_out(start_server, open_endpoint, ask):
    first, second = start_server(seconds=0.05), start_server(seconds=0.05)
    engine = open_endpoint(first, second, max_in_flight=8)
    second.control(broken=True)
    started = time.monotonic()
    samples = [sample for sample in engine.sample(ask([f"{at}+1" for at in range(100)])) if sample]
    assert len(samples) == 100
    assert engine.report()["replicas"][1]["deaths"] >= 1
    assert time.monotonic() - started < 20.0
