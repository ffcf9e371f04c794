"""The endpoint engine against a real server process that misbehaves: faults are retried or recorded."""

from __future__ import annotations

import time

import pytest

from distill.engines.base import draw, sample_through_ledger
from distill.errors import ConfigError, InfrastructureError
from distill.records import Sample, Unanswered
from distill.store.ledger import Ledger


def drawn(engine, requests):
    return [sample for sample in engine.sample(requests) if sample is not None]


def test_a_sample_describes_itself(start_server, open_endpoint, ask):
    engine = open_endpoint(start_server())
    (request,) = ask(["3+4"])
    (sample,) = drawn(engine, [request])
    assert sample.key == request.key(engine.fingerprint)
    assert (sample.problem_id, sample.index, sample.seed) == ("p0", 0, request.seed)
    assert sample.answer == "\\boxed{7}"
    assert sample.reasoning.startswith(f"step 0 of {request.seed}")
    assert sample.text == f"<think>\n{sample.reasoning}\n</think>\n\n{sample.answer}"
    assert (sample.prompt_tokens, sample.completion_tokens, sample.finish_reason) == (7, 5, "stop")


@pytest.mark.parametrize(
    ("style", "opened"),
    [("reasoning", False), ("reasoning_content", False), ("both", False), ("text", False), ("opened", True)],
)
def test_every_way_to_send_reasoning(start_server, open_endpoint, ask, style, opened):
    engine = open_endpoint(start_server(style=style), opened_by_prompt=opened)
    (request,) = ask(["3+4"])
    (sample,) = drawn(engine, [request])
    thought = " ".join(f"step {at} of {request.seed}." for at in range(4))
    assert (sample.reasoning, sample.answer) == (thought, "\\boxed{7}")


@pytest.mark.parametrize(
    ("kind", "recorded"),
    [
        ("429", "rate_limited"), ("after", "rate_limited"), ("500", "server_error"), ("502", "server_error"),
        ("503", "overloaded"), ("reset", "reset"), ("midreset", "reset|truncated"), ("stall", "stalled"),
        ("malformed", "malformed"), ("cut", "truncated"), ("truncated", "truncated"), ("two", "wrong_n"),
        ("none", "wrong_n"), ("error", "server_error"),
    ],
)  # fmt: skip
def test_a_fault_is_retried_and_counted(start_server, open_endpoint, ask, kind, recorded):
    server = start_server()
    engine = open_endpoint(server)
    requests = ask([f"1+1 [[{kind}*2]]", "2+2"])
    samples = drawn(engine, requests)
    assert {sample.answer for sample in samples} == {"\\boxed{2}", "\\boxed{4}"}
    failures = engine.report()["failures"]
    assert sum(failures.values()) == 2
    assert set(failures) <= set(recorded.split("|"))
    by_request = server.stats()["by_request"]
    assert all(by_request[f"{request.prompt}|{request.seed}"] == 1 for request in requests)


@pytest.mark.parametrize(("kind", "recorded"), [("400", "rejected"), ("422", "rejected"), ("filter", "content_filter")])
def test_what_would_fail_again_is_recorded_and_the_rest_goes_on(start_server, open_endpoint, ask, kind, recorded):
    server = start_server()
    engine = open_endpoint(server)
    items = [item for item in engine.sample(ask([f"1+1 [[{kind}*9]]", "2+2"])) if item is not None]
    (refused,), (sample,) = [[item for item in items if isinstance(item, each)] for each in (Unanswered, Sample)]
    assert (refused.problem_id, refused.is_refused, sample.answer) == ("p0", True, "\\boxed{4}")
    report = engine.report()
    assert report["not_drawn"] == {recorded: 1}
    assert report["not_drawn_first"][0]["problem_id"] == "p0"
    assert server.stats()["requests"] == 3 + 2  # the probe's, and one each


def test_answers_that_stay_broken_end_the_run_after_all_others(start_server, open_endpoint, ask):
    engine = open_endpoint(start_server(), max_attempts=2)
    samples = []
    with pytest.raises(InfrastructureError, match=r"1 requests had no whole answer in 2 attempts \(1 malformed"):
        for sample in engine.sample(ask(["1+1 [[malformed*9]]", "2+2", "3+3"])):
            samples.append(sample)
    assert len([sample for sample in samples if isinstance(sample, Sample)]) == 2
    assert [item.is_refused for item in samples if isinstance(item, Unanswered)] == [False]


def test_a_slow_stream_is_not_cut_while_it_moves(start_server, open_endpoint, ask):
    """Thirteen pieces, 0.3 s apart: longer in all than each time limit."""
    server = start_server(pieces=12)
    engine = open_endpoint(server, idle_seconds=3.0, first_token_seconds=3.0)
    (sample,) = drawn(engine, ask(["1+1 [[slow*9]]"]))
    assert sample.seconds > 3.5
    assert engine.report()["failures"] == {}


def test_a_server_that_does_not_stream(start_server, open_endpoint, ask):
    (sample,) = drawn(open_endpoint(start_server()), ask(["1+1 [[whole*9]]"]))
    assert (sample.answer, sample.completion_tokens) == ("\\boxed{2}", 5)


def test_tokens_are_counted_by_pieces_where_the_server_does_not_count(start_server, open_endpoint, ask):
    (sample,) = drawn(open_endpoint(start_server(usage=False)), ask(["1+1"]))
    assert sample.completion_tokens == 5


def test_logprobs_reach_the_ledger(start_server, open_endpoint, ask, tmp_path):
    engine = open_endpoint(start_server(), top_logprobs=3)
    (sample,) = drawn(engine, ask(["1+1"]))
    assert [entry["logprob"] for entry in sample.logprobs] == [-0.5] * 5
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_samples([sample])
        assert ledger.get_logprobs([sample.key]) == {sample.key: sample.logprobs}


def test_2000_in_flight(start_server, open_endpoint, ask):
    server = start_server(seconds=1.0)
    engine = open_endpoint(server, max_in_flight=2000, first_token_seconds=60.0)
    samples = drawn(engine, ask([f"{at}+1" for at in range(1000)], samples=3))
    assert len({sample.key for sample in samples}) == len(samples) == 3000
    stats = server.stats()
    assert stats["most"] >= 1800
    *each, probes = sorted(stats["by_request"].values())
    assert each == [1] * 3000 and probes in (2, 3)  # the probe hangs up on two choices as soon as it sees them


FAULTS = ("after", "429", "500", "503", "reset", "midreset", "half", "malformed", "cut", "truncated", "two", "none",
          "error", "slow", "whole", "stall")  # fmt: skip
REFUSED = ("400", "422", "filter")


def test_every_fault_at_once_with_2000_in_flight(start_server, open_endpoint, ask, tmp_path):
    """Each request has its sample, or the reason why it has none; a share of refusals at random lowers nothing."""
    server = start_server(seconds=0.8, noise=0.05, continues="continue_final_message", pieces=8)
    settings = {"max_in_flight": 2000, "first_token_seconds": 60.0, "idle_seconds": 2.0, "continue_partial": "auto"}
    engine = open_endpoint(server, give_up_seconds=60.0, **settings)
    kinds = [*FAULTS, *REFUSED, None]
    texts = [f"{at}+1" + (f" [[{kind}*1]]" if (kind := kinds[at % len(kinds)]) in FAULTS else
                          f" [[{kind}*99]]" if kind else "") for at in range(2400)]  # fmt: skip
    requests = ask(texts)
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        items = [item for item in draw(engine, ledger, requests) if item is not None]
        assert ledger.count() == 2400 - 3 * 120
    samples = {item.problem_id: item for item in items if isinstance(item, Sample)}
    given_up = [item for item in items if isinstance(item, Unanswered)]
    assert len(items) == 2400 and len(samples) == 2040
    assert len(given_up) == 3 * 120 and all(item.is_refused for item in given_up)
    assert all(samples[f"p{at}"].answer == f"\\boxed{{{at + 1}}}" for at in range(2400) if f"p{at}" in samples)
    report, stats = engine.report(), server.stats()
    assert report["not_drawn"] == {"rejected": 240, "content_filter": 120}
    assert {"rate_limited", "overloaded", "server_error", "reset", "malformed", "truncated", "wrong_n", "stalled"} <= (
        report["failures"].keys()
    )
    assert report["replicas"][0]["limit_falls"] == 0 and stats["most"] >= 1200  # failing ones are soon over
    assert report["continued"]["completions"] >= 120  # broken streams went on


def test_slots_stay_full_under_heavy_tailed_lengths(start_server, open_endpoint, ask):
    """3 % take ten times as long; while requests wait, the server itself must have nearly all slots busy."""
    server = start_server(seconds=0.5, tail_share=0.03, tail_seconds=5.0)
    engine = open_endpoint(server, max_in_flight=50, first_token_seconds=60.0)
    before, started = server.stats()["area"], time.monotonic()
    samples, filled = 0, None
    for sample in engine.sample(ask([f"{at}+1" for at in range(600)])):
        samples += sample is not None
        if samples == 500 and filled is None:
            filled = (server.stats()["area"] - before) / (50 * (time.monotonic() - started))
    assert samples == 600
    assert filled is not None
    print(f"slots filled: {filled:.1%}")
    assert filled > 0.85  # as the server saw it, request building and this busy machine included
    assert engine.report()["slot_occupancy"] > 0.95


def test_the_ledger_has_a_sample_as_soon_as_nothing_else_finishes(start_server, open_endpoint, ask, tmp_path):
    """A finished sample does not wait in memory for the next one, which may take minutes."""
    engine = open_endpoint(start_server(seconds=0.1), first_token_seconds=30.0)
    texts = ["1+1", *(f"{at}+1 [[stall*1]]" for at in range(2, 4))]
    with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        started = time.monotonic()
        next(sample_through_ledger(engine, ledger, ask(texts), commit_every_seconds=1000.0))
        assert time.monotonic() - started < 2.0
        assert ledger.count() == 1


def test_a_run_that_nobody_answers_ends(start_server, open_endpoint, ask):
    server = start_server()
    engine = open_endpoint(server, give_up_seconds=1.5)
    server.kill()
    with pytest.raises(InfrastructureError, match=r"nothing was accepted for .* unreachable"):
        drawn(engine, ask(["1+1"]))


def test_a_key_that_expires_ends_the_run(start_server, open_endpoint, ask, monkeypatch):
    monkeypatch.setenv("DISTILL_API_KEY", "sk-quite-secret-0815")
    server = start_server(key="sk-quite-secret-0815")
    engine = open_endpoint(server)
    server.control(key="another", echo=True)
    with pytest.raises(InfrastructureError, match=r"Incorrect API key provided: \[key\].*DISTILL_API_KEY") as caught:
        drawn(engine, ask(["1+1"]))
    assert "0815" not in str(caught.value)


def test_no_half_of_a_key_at_the_cut_of_a_long_message(start_server, open_endpoint, ask, monkeypatch):
    key = "sk-" + "x" * 290 + "-0815"
    monkeypatch.setenv("DISTILL_API_KEY", key)
    server = start_server(key=key)
    engine = open_endpoint(server)
    server.control(key="another")
    with pytest.raises(InfrastructureError) as caught:
        drawn(engine, ask(["1+1"]))
    assert "xxx" not in str(caught.value)


def test_a_key_in_a_completion_is_blotted_out(start_server, open_endpoint, ask, monkeypatch):
    monkeypatch.setenv("DISTILL_API_KEY", "sk-quite-secret-0815")
    (sample,) = drawn(open_endpoint(start_server(echo=True)), ask(["1+1"]))
    assert sample.answer == "\\boxed{2}[key]"
    assert "0815" not in str(sample)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://me:hush@x/v1", "http://x/v1?key=hush", "http://"]
)
def test_urls_that_are_refused(url):
    from distill.engines.endpoint_http import normal_url

    with pytest.raises(ConfigError, match="--base-url") as caught:
        normal_url(url)
    assert "hush" not in str(caught.value)


def test_the_fingerprint_is_of_the_model_not_of_the_address(start_server, open_endpoint):
    first, second = open_endpoint(start_server()), open_endpoint(start_server())
    other = open_endpoint(start_server(models=["other"]))
    thinking = open_endpoint(start_server(), extra_body={"chat_template_kwargs": {"thinking": True}})
    assert first.fingerprint == second.fingerprint
    assert len({first.fingerprint, other.fingerprint, thinking.fingerprint}) == 3


def test_leaving_early_drops_what_is_in_flight(start_server, open_endpoint, ask):
    engine = open_endpoint(start_server(seconds=0.05), max_in_flight=4)
    samples = engine.sample(ask([f"{at}+1" for at in range(100)]))
    assert any(isinstance(item, Sample) for item in samples)
    started = time.monotonic()
    samples.close()
    assert time.monotonic() - started < 2.0
