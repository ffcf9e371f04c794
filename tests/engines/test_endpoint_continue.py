"""Completions that are gone on from: the probe finds how, nothing on disk is drawn again, the text is the same."""

from __future__ import annotations

import time

import pytest

from distill.cards import ReasoningFormat
from distill.engines.base import draw
from distill.engines.endpoint_continue import FORMS, Continuation, Form, cut
from distill.engines.endpoint_trace import pieces_of
from distill.records import PartialTrace, Sample, SamplingParams, TracePiece
from distill.store.ledger import Ledger

GOES_ON = {"continues": "continue_final_message", "pieces": 20}
AUTO = {"continue_partial": "auto"}


def one(engine, request):
    (sample,) = [item for item in engine.sample([request]) if isinstance(item, Sample)]
    return sample


def longer(requests, max_new_tokens=64):
    from dataclasses import replace

    return [replace(each, params=SamplingParams(0.6, 0.95, max_new_tokens)) for each in requests]


@pytest.mark.parametrize(
    ("settings", "thought", "answer"),
    [
        ({"continues": "continue_final_message"}, "continue_final_message", "continue_final_message"),
        ({"continues": "continue_final_message", "strips_thought": True}, "continue_final_message", None),
        ({"continues": "prefix"}, "prefix", "prefix"),
        (
            {"continues": "trailing"},
            "continue_final_message",
            "continue_final_message",
        ),  # it takes no notice of the field
        ({}, None, None),
    ],
)
def test_the_probe_finds_the_form_that_goes_on(start_server, open_endpoint, settings, thought, answer):
    engine = open_endpoint(start_server(pieces=20, **settings), **AUTO)
    found = engine._continuation
    names = [form and form.name for form in (found.in_thought, found.in_answer)]
    assert names == [thought, answer]
    assert engine.can_continue == bool(thought)
    shown = engine.probes[0].continues
    assert shown == "no" if not thought else shown.startswith(f"thoughts ({thought})")


def test_every_replica_must_go_on(start_server, open_endpoint):
    engine = open_endpoint(start_server(**GOES_ON), start_server(pieces=20), **AUTO)
    assert not engine.can_continue
    assert [probe.continues.split(" ")[0] for probe in engine.probes] == ["thoughts", "no"]


def test_switched_off(start_server, open_endpoint):
    engine = open_endpoint(start_server(**GOES_ON), continue_partial="never")
    assert not engine.can_continue and engine.probes[0].continues == "switched off"


def test_a_broken_stream_goes_on_where_it_broke(start_server, open_endpoint, ask):
    server = start_server(**GOES_ON)
    (undisturbed,), (broken,) = ask(["3+4"]), ask(["3+4 [[half*1]]"])
    whole = one(open_endpoint(server), undisturbed)
    engine = open_endpoint(server, **AUTO)
    before = server.stats()["pieces"]
    sample = one(engine, broken)
    assert server.stats()["pieces"] - before == 21  # every piece once
    assert sample.reasoning == whole.reasoning.replace(str(undisturbed.seed), str(broken.seed))
    assert sample.answer == whole.answer and sample.finish_reason == "stop"
    assert len(sample.splices) == 1 and sample.text[: sample.splices[0]].endswith(f"step 9 of {broken.seed}.")
    assert sample.completion_tokens == 21
    assert engine.report()["continued"] == {"completions": 1, "tokens_not_drawn_again": 10}


@pytest.mark.parametrize("is_closed", [True, False])
def test_what_is_on_disk_is_not_drawn_again(start_server, open_endpoint, ask, tmp_path, is_closed):
    """Left in the middle (as by Ctrl-C), or only saved in passing (as before a kill -9): the rest alone is drawn."""
    server = start_server(**GOES_ON)
    requests = ask([f"{at}+1" for at in range(6)])
    engine = open_endpoint(server, save_partial_seconds=0.4, **AUTO)
    wanted = {sample.key: sample for sample in engine.sample(requests) if isinstance(sample, Sample)}
    server.control(piece_seconds=0.1)
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        before = server.stats()["pieces"]
        drawing = draw(engine, ledger, requests, commit_every_seconds=0.1)
        started = time.monotonic()
        for _ in drawing:
            if time.monotonic() - started > 1.0:
                break
        saved = ledger.get_partials(wanted)
        assert len(saved) == 6 and all(partial.num_tokens >= 2 for partial in saved.values())
        if is_closed:
            drawing.close()
            saved = ledger.get_partials(wanted)
            assert server.stats()["pieces"] - before - sum(each.num_tokens for each in saved.values()) <= 6
        engine._last_driver.stop()  # as a kill does: nothing more is saved
        while server.stats()["in_flight"]:  # it notices at its next write
            time.sleep(0.05)
        server.control(piece_seconds=0.0)
        again, before = open_endpoint(server, **AUTO), server.stats()["pieces"]
        samples = [item for item in draw(again, ledger, requests) if isinstance(item, Sample)]
        drawn_now = server.stats()["pieces"] - before
        assert drawn_now == 6 * 21 - sum(partial.num_tokens for partial in saved.values())
        assert ledger.count() == 6 and ledger.get_partials(wanted) == {}
    for sample in samples:
        assert (sample.text, sample.completion_tokens) == (wanted[sample.key].text, 21)
        assert len(sample.splices) == 1


def test_the_next_rung_goes_on_from_a_truncated_sample(start_server, open_endpoint, ask):
    server = start_server(**GOES_ON)
    engine = open_endpoint(server, **AUTO)
    (request,) = ask(["3+4"])
    (short,) = longer([request], 8)
    cut_off = one(engine, short)
    assert (cut_off.finish_reason, cut_off.answer, cut_off.completion_tokens) == ("length", None, 8)
    from dataclasses import replace

    prefix = PartialTrace(cut_off.key, cut_off.reasoning, cut_off.answer or "", 8)
    before = server.stats()["pieces"]
    items = list(engine.sample([replace(request, prefix=prefix)]))
    (sample,) = [item for item in items if isinstance(item, Sample)]
    assert server.stats()["pieces"] - before == 13 and sample.completion_tokens == 21
    assert sample.text == one(engine, request).text


def test_a_server_that_loops_is_hung_up_on(start_server, open_endpoint, ask):
    server = start_server(loops=True)
    engine = open_endpoint(server, require_reasoning=False, abort_loops={"words": 18, "times": 20})
    (request,) = longer(ask(["3+4"]), 4000)
    before = server.stats()["left"]  # by the probe, which asks for two choices
    sample = one(engine, request)
    assert (sample.finish_reason, sample.answer) == ("aborted", None)
    assert sample.note.startswith("loop: ") and sample.completion_tokens < 400
    deadline = time.monotonic() + 5
    while server.stats()["left"] == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.stats()["left"] == before + 1  # it noticed, and stopped


MARKS = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)


@pytest.mark.parametrize(
    ("splits", "reasoning", "content", "in_thought", "kept"),
    [
        (True, "a thought", "", True, ("a thought", "")),
        (True, "a thought", "an answer", False, ("a thought", "")),  # answers are not gone on from: back to the thought
        (False, "", "<think>\nwell", True, ("", "<think>\nwell")),
        (False, "", "<think>\nwell</think> so", False, ("", "<think>\nwell")),
        (
            False,
            "well",
            "so",
            False,
            ("", "<think>\nwell"),
        ),  # a finished sample, of a server that sends one text
        (True, "", "", True, None),
    ],
)
def test_what_of_a_partial_can_be_gone_on_from(splits, reasoning, content, in_thought, kept):
    continuation = Continuation(MARKS, splits, in_thought=Form("continue_final_message"))
    found = continuation.usable(PartialTrace("k", reasoning, content, 10))
    assert (found and (found.reasoning, found.content)) == kept
    if found is not None:
        assert continuation.is_in_thought(found) and found.num_tokens <= 10


def test_the_text_of_a_partial_is_what_the_model_wrote():
    continuation = Continuation(MARKS, True, in_thought=FORMS[0], in_answer=FORMS[0])
    partial = PartialTrace("k", "well", "so", 4)
    assert continuation.text_of(partial, opened=False) == "<think>\nwell\n</think>\n\nso"
    assert continuation.text_of(partial, opened=True) == "well\n</think>\n\nso"


def test_pieces_of_a_partial_give_it_back(tmp_path):
    partial = PartialTrace("k", "abcdef", "ghi", 9, splices=(2, 7))
    with Ledger.open(tmp_path / "l.db", create=True) as ledger:
        ledger.add_pieces([TracePiece("k", "fresh", "void", "", 3), *pieces_of(partial, "k")])
        assert ledger.get_partials(["k"]) == {"k": partial}
    assert cut(partial, 4) == PartialTrace("k", "abcd", "", 4, splices=(2,))


def test_an_answer_is_drawn_after_a_thought_that_is_closed_early(start_server, open_endpoint, ask, tmp_path):
    """Force-close at a server: where it goes on from a closed thought, and where its template drops the thought."""
    from distill.errors import TeacherError
    from distill.evaluate.budget import force_closed_curve
    from distill.records import Problem
    from distill.verify.base import verify

    problem = Problem("p0", "3+4", "7", "math", "f", "math", "s", "mit")
    engine = open_endpoint(start_server(**GOES_ON), **AUTO)
    sample = one(engine, ask(["3+4"])[0])
    settings = {
        "reasoning": engine._continuation.reasoning,
        "first_tokens": lambda text, num_tokens: text[: 9 + 5 * num_tokens],
        "verify": lambda pairs: [verify(*pair) for pair in pairs],
    }
    with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        points = force_closed_curve(engine, ledger, [(problem, sample)], [2, 64], **settings)
        assert [(point.accuracy, point.share_finished) for point in points] == [(1.0, 0.0), (1.0, 1.0)]
        (closed,) = ledger.samples()
        assert closed.text == f"{sample.text[:19].strip()}\n</think>\n\nFinal Answer:\\boxed{{7}}"
        assert closed.completion_tokens == 3
        forgets = open_endpoint(start_server(strips_thought=True, **GOES_ON), **AUTO)
        with pytest.raises(TeacherError, match="does not go on from a closed thought"):
            force_closed_curve(forgets, ledger, [(problem, sample)], [2], **settings)
