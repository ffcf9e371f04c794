"""Pre-flight: what an endpoint says of itself, and what is refused before anything is spent."""

from __future__ import annotations

import pytest

from distill.errors import ConfigError, InfrastructureError, TeacherError


def test_a_report(start_server, open_endpoint):
    report = open_endpoint(start_server()).probes[0]
    assert (report.model, report.reasoning, report.closed, report.usage) == ("tiny-served", "reasoning", True, True)
    assert (report.seed_honoured, report.n, report.logprobs, report.context_tokens) == (True, True, True, 4096)
    assert "reasoning: reasoning, closed yes, usage yes, seed honoured yes, n yes" in str(report)


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({"style": "reasoning_content"}, "reasoning", "reasoning_content"),
        ({"style": "text"}, "reasoning", "text"),
        ({"style": "opened"}, "reasoning", "text opened by the prompt"),
        ({"ignore_seed": True}, "seed_honoured", False),
        ({"refuse_n": True}, "n", False),
        ({"usage": False}, "usage", False),
        ({"refuse_fields": ["logprobs"]}, "logprobs", False),
        ({"refuse_fields": ["seed"]}, "seed_honoured", False),
        ({"refuse_fields": ["stream_options"]}, "usage", False),
        ({"context": None}, "context_tokens", None),
    ],
)
def test_what_a_server_lacks_is_told(start_server, open_endpoint, settings, field, value):
    assert getattr(open_endpoint(start_server(**settings)).probes[0], field) == value


def test_a_server_that_wants_another_name_for_the_limit(start_server, open_endpoint, ask):
    engine = open_endpoint(start_server(refuse_fields=["max_tokens"]))
    assert [sample.answer for sample in engine.sample(ask(["1+1"])) if sample] == ["\\boxed{2}"]


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ("plain", "reasoning would be lost: no `reasoning`, no `reasoning_content`"),
        ("hidden", "reasoning would be lost: the server counted 500 tokens that it did not send"),
        ("unclosed", "reasoning would be lost: <think> came and </think> did not"),
    ],
)
def test_reasoning_that_would_be_lost_is_refused(start_server, open_endpoint, style, message):
    server = start_server(style=style)
    with pytest.raises(TeacherError, match=message) as caught:
        open_endpoint(server)
    assert caught.value.exit_code == 2
    assert server.stats()["requests"] == 3  # a model may fail to think once


def test_a_model_that_need_not_reason(start_server, open_endpoint, ask):
    engine = open_endpoint(start_server(style="plain"), require_reasoning=False)
    (sample,) = [sample for sample in engine.sample(ask(["1+1"])) if sample]
    assert (sample.reasoning, sample.answer) == (None, "\\boxed{2}")


def test_nobody_there(start_server, open_endpoint):
    server = start_server()
    server.kill()
    with pytest.raises(InfrastructureError, match=r"unreachable: .* Nothing was spent; start the server") as caught:
        open_endpoint(server)
    assert caught.value.exit_code == 6


def test_a_missing_key(start_server, open_endpoint, monkeypatch):
    monkeypatch.delenv("DISTILL_API_KEY", raising=False)
    with pytest.raises(InfrastructureError, match=r"HTTP 401: .* Set the key in DISTILL_API_KEY"):
        open_endpoint(start_server(key="sk-1"))


def test_several_models(start_server, open_endpoint):
    with pytest.raises(TeacherError, match="serves a, b; say which to sample with --model NAME"):
        open_endpoint(start_server(models=["a", "b"]))


def test_a_context_that_is_too_short(start_server, open_endpoint):
    with pytest.raises(TeacherError, match=r"max_new_tokens=64 leaves no room .* context of 70"):
        open_endpoint(start_server(context=70))


def test_fields_that_distill_sets_itself(start_server, open_endpoint):
    with pytest.raises(ConfigError, match=r"endpoint\.extra_body: seed: distill sets this itself"):
        open_endpoint(start_server(), extra_body={"seed": 1})


def test_a_probe_that_meets_faults_tries_again(start_server, open_endpoint):
    server = start_server(noise=0.5)
    assert open_endpoint(server, max_attempts=20).probes[0].reasoning == "reasoning"
