"""Event streams cut anywhere, in every dialect."""

from __future__ import annotations

import json

import pytest

from distill.cards import ReasoningFormat
from distill.engines.endpoint_retry import EndpointFailure, backoff_seconds, of_status, retry_after_seconds
from distill.engines.endpoint_stream import StreamedCompletion, thought_and_answer

MARKERS = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)
OPENED = MARKERS.model_copy(update={"opened_by_prompt": True})


def event(delta=None, finish=None, **more):
    data = {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\r\n\r\n"


def read(*events: bytes, cut: int = 10**6):
    stream, whole = StreamedCompletion(), b"".join(events)
    for start in range(0, len(whole), cut):
        stream.feed(whole[start : start + cut])
    return stream.finish()


@pytest.mark.parametrize("cut", [1, 2, 7, 10**6])
def test_cut_anywhere(cut):
    completion = read(
        b": keep-alive\n\n", b"event: message\n", event({"reasoning": "d\u00e9j\u00e0 "}), event({"reasoning": "vu"}),
        event({"content": "\u6c34"}), event(finish="stop"), b'data: {"choices": [], "usage": {"completion_tokens": 9}}',
        b"\n\ndata: [DONE]\n\n", cut=cut,
    )  # fmt: skip
    assert (completion.reasoning, completion.content) == ("d\u00e9j\u00e0 vu", "\u6c34")
    assert (completion.completion_tokens, completion.prompt_tokens, completion.num_pieces) == (9, None, 3)


def test_a_last_line_without_its_newline():
    assert read(event({"content": "x"}), event(finish="eos").rstrip()).finish_reason == "stop"


def test_an_end_without_done_is_an_end_if_the_model_finished():
    assert read(event({"content": "x"}), event(finish="length")).finish_reason == "length"


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([event({"content": "x"})], "truncated"),
        ([event({"content": "x"}), b'data: {"cho'], "truncated"),
        ([], "truncated"),
        ([b"data: [DONE]\n\n"], "wrong_n"),
        ([b"data: {oops}\n\n"], "malformed"),
        ([b"data: \xff\xfe\n\n"], "malformed"),
        ([b"data: [1]\n\n"], "malformed"),
        ([b'data: {"choices": {"a": 1}}\n\n'], "malformed"),
        ([event({"content": 5})], "malformed"),
        ([b'data: {"choices": [{"index": 0, "delta": [1]}]}\n\n'], "malformed"),
        ([b'data: {"choices": [{"index": 1, "delta": {"content": "x"}}]}\n\n'], "wrong_n"),
        ([b'data: {"choices": [{"index": 0}, {"index": 1}]}\n\n'], "wrong_n"),
        ([b'data: {"error": {"message": "m", "code": 429}}\n\n'], "rate_limited"),
        ([b'data: {"error": "m"}\n\n'], "server_error"),
        ([event({"content": "x"}, "content_filter")], "content_filter"),
        ([event({"content": "x"}, "insufficient_system_resource")], "server_error"),
    ],
)
def test_what_is_broken_is_named(events, kind):
    with pytest.raises(EndpointFailure) as caught:
        read(*events)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("deltas", "finish", "markers", "field", "parts"),
    [
        ([{"reasoning": "t\n"}, {"content": "\n\na"}], "stop", MARKERS, True, ("t", "a")),
        ([{"reasoning": "t"}], "length", MARKERS, True, ("t", None)),
        ([{"reasoning": "t"}], "stop", MARKERS, True, ("t", "")),
        ([{"content": "<think>t</think>a"}], "stop", MARKERS, False, ("t", "a")),
        ([{"content": "<think>t"}], "length", MARKERS, False, ("t", None)),
        ([{"content": "t</think>a"}], "stop", OPENED, False, ("t", "a")),
        ([{"content": "t"}], "length", OPENED, False, ("t", None)),
        ([{"content": "a"}], "stop", OPENED, True, (None, "a")),
        ([{"content": "t"}], "length", OPENED, True, ("t", None)),  # vllm#35221: a cut thought comes as content
        ([{"content": "a"}], "stop", MARKERS, False, (None, "a")),
    ],
)
def test_thought_and_answer(deltas, finish, markers, field, parts):
    completion = read(*(event(delta) for delta in deltas), event(finish=finish))
    assert thought_and_answer(completion, markers, field_expected=field)[1:] == parts


def test_the_text_reads_as_the_local_engine_would_have_it():
    completion = read(event({"reasoning_content": "t"}), event({"content": "a"}), event(finish="stop"))
    assert thought_and_answer(completion, MARKERS, field_expected=True)[0] == "<think>\nt\n</think>\n\na"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None), ({"Retry-After": "2"}, 2.0), ({"Retry-After": "0.5"}, 0.5), ({"Retry-After": "9999"}, 300.0),
        ({"retry-after-ms": "250"}, 0.25), ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)  # fmt: skip
def test_retry_after(headers, seconds):
    assert retry_after_seconds(headers) == seconds


def test_backoff_grows_spreads_and_keeps_to_the_servers_wish():
    assert [backoff_seconds(attempt, None, 0.99) > attempt * 0.25 for attempt in (1, 3, 5)] == [True] * 3
    assert max(backoff_seconds(99, None, jitter) for jitter in (0, 0.5, 0.99)) <= 30.0
    assert backoff_seconds(1, None, 0.0) < backoff_seconds(1, None, 0.9)
    assert 5.0 <= backoff_seconds(9, 5.0, 0.9) <= 5.5


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, '{"error": {"code": "insufficient_quota"}}', "out_of_budget"), (402, "", "out_of_budget"),
        (401, "", "unauthorised"), (404, "", "not_found"), (302, "", "redirected"), (504, "<html>", "server_error"),
        (529, "", "overloaded"), (413, "", "rejected"),
    ],
)  # fmt: skip
def test_statuses(status, body, kind):
    assert of_status(status, body, {}).kind == kind
