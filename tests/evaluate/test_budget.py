"""Force-closed thoughts: on the embedded teacher for real, and by script where a model would not misbehave.

pytest tests/evaluate/test_budget.py
"""

from dataclasses import replace

import pytest

from distill.cards import load_teacher
from distill.engines.base import sample_of, sample_through_ledger
from distill.engines.reasoning import split_reasoning
from distill.errors import ConfigError, TeacherError
from distill.evaluate.budget import ForceClosedParams, force_closed_curve, recorded_samples
from distill.evaluate.result import Item, TaskResult
from distill.evaluate.tasks import read_task
from distill.records import Problem, SampleRequest, SamplingParams
from distill.store.ledger import Ledger
from distill.verify.base import verify

PARAMS = SamplingParams(0.6, 0.95, 320)
PROBLEM = Problem("p0", "3+4?", "7", "exact", "sums", "math", "s", "mit")
CARD = load_teacher("tiny")


def judge(pairs):
    return [verify(*pair) for pair in pairs]


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def teacher():
    import torch

    from distill.engines.local import LocalEngine

    torch.set_num_threads(1)
    return LocalEngine.open(CARD.model_location, name="tiny", reasoning=CARD.reasoning)


def drawn(engine, ledger, problems, samples=1, params=PARAMS):
    by_id = {problem.id: problem for problem in problems}
    requests = [
        SampleRequest(problem.id, engine.render(problem.prompt), index, params)
        for problem in problems
        for index in range(samples)
    ]
    found = {sample.key: sample for sample in sample_through_ledger(engine, ledger, requests)}
    keys = [request.key(engine.fingerprint) for request in requests]
    return [(by_id[found[key].problem_id], found[key]) for key in keys]


def test_the_embedded_teacher_answers_from_a_closed_thought(teacher, ledger):
    problems = read_task("tiny").problems()[:12]
    pairs = drawn(teacher, ledger, problems, samples=2)
    settings = {"reasoning": CARD.reasoning, "answer_tokens": 16, "verify": judge}
    points = force_closed_curve(teacher, ledger, pairs, [8, 64, 320], **settings)
    own = sum(verdict.outcome == "correct" for verdict in judge(pairs)) / len(pairs)
    assert [point.budget for point in points] == [8, 64, 320]
    assert points[0].accuracy < points[2].accuracy == own > 0.7
    assert points[0].share_finished == 0.0 and points[2].share_finished == 1.0
    assert points[0].mean_tokens <= 8 + 16
    closed = [sample for sample in ledger.samples() if "force_closed_sample" in sample.params]
    assert len(closed) == sum(round((1 - point.share_finished) * len(pairs)) for point in points)
    by_key = {sample.key: sample for _, sample in pairs}
    for sample in closed:
        source, at = by_key[sample.params["force_closed_sample"]], sample.params["at_tokens"]
        thought = teacher.first_tokens(source.text, at).removeprefix("<think>").strip()
        assert sample.reasoning == thought and source.reasoning.startswith(thought)
        assert sample.text[: sample.splices[0]] == f"<think>\n{thought}\n</think>\n\n"
        assert sample.answer is not None and at < sample.completion_tokens <= at + 16
    assert force_closed_curve(teacher, ledger, pairs, [8, 64, 320], **settings) == points
    assert ledger.count() == len(pairs) + len(closed)  # the second time nothing was drawn


def test_tokens_read_back_are_those_that_were_drawn(teacher, ledger):
    ((_, sample),) = drawn(teacher, ledger, read_task("tiny").problems()[:1])
    assert teacher.first_tokens(sample.text, sample.completion_tokens - 1) == sample.text  # the last one ends it
    assert teacher.first_tokens(sample.text, sample.completion_tokens - 2) == sample.text[:-1]
    assert teacher.first_tokens(sample.text, 3) == "<think>\n" + sample.text[8]
    assert teacher.first_tokens("a\U0001f600", 2) == "a"  # four bytes, four tokens: not yet there


def test_a_context_that_is_too_short_is_the_engines_own_error(teacher, ledger):
    pairs = drawn(teacher, ledger, read_task("tiny").problems()[:1])
    with pytest.raises(TeacherError, match="the model's context is 1024"):
        force_closed_curve(teacher, ledger, pairs, [8], reasoning=CARD.reasoning, answer_tokens=2000, verify=judge)


class Scripted:
    """Reads text, a word a token. Thinks in words; says 7 once it has thought "four", else 3."""

    model, fingerprint, can_continue = "scripted", "scripted-1", False
    text = "<think>\n three and four make seven \n</think>\n\n7"

    def __init__(self, reads_text=True, thinks_again=False, finish="stop"):
        self.requests, self.thinks_again, self.finish = [], thinks_again, finish
        if reads_text:
            self.first_tokens = lambda text, num_tokens: " ".join(text.split()[:num_tokens])
        else:
            self.can_continue = True

    def render(self, user_message):
        return f"<user>{user_message}<assistant>"

    def sample(self, requests):
        for request in requests:
            self.requests.append(request)
            text, tokens = self.text, len(self.text.split())
            if request.prompt.endswith("</think>\n\n"):
                text, tokens = ("7" if " four" in request.prompt else "3"), 1
            if request.prefix is not None:
                thought = "again" if self.thinks_again else request.prefix.reasoning.strip()
                text, tokens = f"<think>\n{thought}\n</think>\n\n7", request.prefix.num_tokens + 1
            reasoning, answer = split_reasoning(text)
            yield sample_of(
                self, request, text=text, reasoning=reasoning, answer=answer, prompt_tokens=3,
                completion_tokens=tokens, finish_reason=self.finish, seconds=0.0,
            )  # fmt: skip

    def close(self):
        pass


SETTINGS = {"reasoning": CARD.reasoning, "answer_tokens": 2, "verify": judge}


def test_accuracy_rises_where_the_thought_has_what_it_needs(ledger):
    engine = Scripted()
    pairs = drawn(engine, ledger, [PROBLEM])
    points = force_closed_curve(engine, ledger, pairs, [1, 3, 4, 7, 8], **SETTINGS)
    # <think> three and four make seven </think> 7: the thought needs "four", and ends with the seventh token
    assert [point.accuracy for point in points] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert [point.share_finished for point in points] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert [point.mean_tokens for point in points] == [2, 4, 5, 8, 8]
    assert points[0].interval_benchmark is None  # one sample an item


def test_keys_are_those_of_no_other_sample(ledger):
    engine = Scripted()
    pairs = drawn(engine, ledger, [PROBLEM], samples=2)
    force_closed_curve(engine, ledger, pairs, [2, 3], **SETTINGS)
    force_closed_curve(engine, ledger, pairs, [3], **SETTINGS | {"answer_opening": "So:"})
    closed = [sample for sample in ledger.samples() if "at_tokens" in sample.params]
    assert len(closed) == len({sample.key for sample in closed}) == 6
    request = SampleRequest("p0", engine.render(PROBLEM.prompt), 0, SamplingParams(0.6, 0.95, 5))
    forced = ForceClosedParams(0.6, 0.95, 5, force_closed_sample="k", at_tokens=3, closing="</think>")
    assert replace(request, params=forced).key("m") != request.key("m")
    assert {request.run_seed for request in engine.requests if "</think>" in request.prompt}.isdisjoint({0})


def test_a_thought_that_was_cut_off_is_closed_at_its_end(ledger):
    engine = Scripted(finish="length")
    engine.text = "<think> three and four make"
    pairs = drawn(engine, ledger, [PROBLEM], params=SamplingParams(0.6, 0.95, 5))
    assert judge(pairs)[0].outcome == "truncated"
    engine.finish = "stop"
    (point,) = force_closed_curve(engine, ledger, pairs, [5], **SETTINGS)
    assert (point.accuracy, point.share_finished, point.mean_tokens) == (1.0, 0.0, 6.0)


def test_without_a_thought_a_completion_is_cut(ledger):
    engine = Scripted()
    engine.text = "it is clear that the answer is 7"
    pairs = drawn(engine, ledger, [PROBLEM])
    points = force_closed_curve(engine, ledger, pairs, [4, 8], **SETTINGS)
    assert [(point.accuracy, point.mean_tokens) for point in points] == [(0.0, 4), (1.0, 8)]
    assert len(engine.requests) == 1


def test_an_answer_far_beyond_the_budget_does_not_count(ledger):
    engine = Scripted()
    engine.text = "<think> four </think> well well well well well it is \\boxed{7}"
    pairs = drawn(engine, ledger, [PROBLEM])
    points = force_closed_curve(engine, ledger, pairs, [3, 9], **SETTINGS)
    assert [(point.accuracy, point.share_finished) for point in points] == [(0.0, 1.0), (1.0, 1.0)]


def test_servers_go_on_from_a_prefix(ledger):
    engine = Scripted(reads_text=False)
    pairs = drawn(engine, ledger, [PROBLEM])
    words = lambda text, num_tokens: " ".join(text.split()[:num_tokens])  # noqa: E731
    (point,) = force_closed_curve(engine, ledger, pairs, [3], **SETTINGS, first_tokens=words)
    assert point.accuracy == 1.0 and engine.requests[-1].prefix.content == "Final Answer:"
    assert engine.requests[-1].params.max_new_tokens == 3 + 2


def test_log_probabilities_of_the_ledger_say_where_tokens_end(ledger):
    engine = Scripted(reads_text=False)
    ((problem, sample),) = drawn(engine, ledger, [PROBLEM])
    other = replace(sample, key="with-logprobs", logprobs=tuple({"token": f"{word} "} for word in sample.text.split()))
    ledger.add_samples([other])
    (point,) = force_closed_curve(engine, ledger, [(problem, other)], [3], **SETTINGS)
    assert point.accuracy == 1.0 and engine.requests[-1].prefix.reasoning == "three and"
    strange = replace(sample, key="strange", logprobs=({"token": "x"},) * 8)
    ledger.add_samples([strange])
    with pytest.raises(ConfigError, match="its first 3 tokens are not the beginning of its thought"):
        force_closed_curve(engine, ledger, [(problem, strange)], [3], **SETTINGS)
    with pytest.raises(ConfigError, match="where its tokens end is not known"):
        force_closed_curve(engine, ledger, [(problem, sample)], [3], **SETTINGS)


def test_what_cannot_be_done_is_said(ledger):
    engine = Scripted(reads_text=False)
    pairs = drawn(engine, ledger, [PROBLEM])
    words = lambda text, num_tokens: " ".join(text.split()[:num_tokens])  # noqa: E731
    cases = [
        (ConfigError, "there is nothing to do", {"budgets": []}),
        (ConfigError, "budget 400: these samples were drawn with 320", {"budgets": [400]}),
        (ConfigError, "answer_tokens: expected at least 1", {"answer_tokens": 0}),
        (ConfigError, "a server needs some text; use 'Final Answer:'", {"answer_opening": " "}),
    ]
    for kind, message, changes in cases:
        settings = {"budgets": [3], **SETTINGS, "first_tokens": words, **changes}
        with pytest.raises(kind, match=message):
            force_closed_curve(engine, ledger, pairs, **settings)
    engine.thinks_again = True
    with pytest.raises(TeacherError, match="it thought again or started anew"):
        force_closed_curve(engine, ledger, pairs, [3], **SETTINGS, first_tokens=words)
    engine.can_continue = False
    with pytest.raises(TeacherError, match="does not go on from a closed thought"):
        force_closed_curve(engine, ledger, pairs, [3], **SETTINGS)


def test_samples_of_another_model_are_refused(ledger):
    engine = Scripted()
    pairs = drawn(engine, ledger, [PROBLEM])
    engine.fingerprint = "scripted-2"
    with pytest.raises(ConfigError, match="drawn from another model or prompt"):
        force_closed_curve(engine, ledger, pairs, [3], **SETTINGS)


def test_recorded_samples_are_found_by_their_keys(ledger):
    pairs = drawn(Scripted(), ledger, [PROBLEM], samples=2)
    keys = tuple(sample.key for _, sample in pairs)
    item = Item("p0", "sums", ("correct",) * 2, ("7",) * 2, (8,) * 2, keys, 1, 2)
    assert recorded_samples(TaskResult("t", 1.0, 2, 1, (item,)), ledger, [PROBLEM]) == pairs
    lost = replace(item, sample_keys=(keys[0], "gone"))
    with pytest.raises(ConfigError, match="1 samples of item p0 not found"):
        recorded_samples(TaskResult("t", 1.0, 2, 1, (lost,)), ledger, [PROBLEM])
    with pytest.raises(ConfigError, match="the problem of item p0 not found"):
        recorded_samples(TaskResult("t", 1.0, 2, 1, (item,)), ledger, [])
