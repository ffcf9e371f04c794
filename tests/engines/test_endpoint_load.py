"""Refusals: load lowers concurrency and it recovers, noise does not."""

from __future__ import annotations

import random
import time

from distill.engines.endpoint_load import WINDOW, LoadLimit


def test_noise_leaves_the_limit_alone():
    """In waves, whose refusals come back before all else."""
    chance, limit = random.Random(1), LoadLimit(100)
    for wave in range(200):
        sends = [limit.sent() for _ in range(100)]
        for send in sends:
            if chance.random() < 0.1:
                limit.refused(send, wave, running=90, retry_after=1.0)
    assert (limit.limit, limit.falls, limit.is_paused(200)) == (100, 0, False)


def test_a_full_server_lowers_the_limit_to_what_it_runs():
    limit = LoadLimit(200)
    burst = [limit.sent() for _ in range(200)]
    for send in burst[60:]:  # one burst, one fall
        limit.refused(send, 2.0, running=60, retry_after=None)
    assert (limit.limit, limit.falls) == (60, 1)


def test_a_fall_is_bounded_and_the_limit_comes_back():
    limit = LoadLimit(100, step_seconds=2.0)
    for send in [limit.sent() for _ in range(WINDOW)]:
        limit.refused(send, 10.0, running=0, retry_after=3.0)
    assert limit.limit == 25
    assert limit.is_paused(12.9)
    assert not limit.is_paused(13.1)
    for step in range(1, 38):
        limit.recover(10.0 + 2 * step)
    assert limit.limit == 99
    limit.recover(90.0)
    limit.recover(95.0)
    assert limit.limit == 100


def test_one_request_at_a_time_is_the_least():
    limit = LoadLimit(2)
    for at in range(100):
        limit.refused(limit.sent(), at, running=0, retry_after=None)
    assert limit.limit == 1


def test_noise_against_a_server(start_server, open_endpoint, ask):
    """Every tenth request is refused with Retry-After: 1; the others must not wait for it."""
    server = start_server(seconds=0.05)
    engine = open_endpoint(server, max_in_flight=50)
    server.control(noise=0.1, retry_after=1)
    started = time.monotonic()
    samples = [sample for sample in engine.sample(ask([f"{at}+1" for at in range(600)])) if sample]
    seconds, report = time.monotonic() - started, engine.report()
    assert len(samples) == 600
    assert report["failures"]["rate_limited"] > 30
    assert report["replicas"][0]["limit_falls"] == 0
    assert seconds < 12.0, seconds


def test_load_against_a_server(start_server, open_endpoint, ask):
    """A server of 20 slots, asked for 120 at a time: the limit comes down, and back up when there is room again."""
    server = start_server(seconds=0.25)
    engine = open_endpoint(server, max_in_flight=120, give_up_seconds=60.0)
    server.control(cap=20)
    samples, low = 0, 120
    for sample in engine.sample(ask([f"{at}+1" for at in range(500)])):
        samples += sample is not None
        low = min(low, engine.report()["replicas"][0]["limit"])
        if samples == 120:
            server.control(cap=None)
    replica, stats = engine.report()["replicas"][0], server.stats()
    assert samples == 500
    assert replica["limit_falls"] >= 1
    assert low <= 40
    assert replica["limit"] > low
    assert stats["refused"] < 1500
