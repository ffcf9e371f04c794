"""Harvests that are killed at random, of engines that finish in random order, end as one that ran through."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from distill.engines.reasoning import split_reasoning
from distill.harvest import runner
from distill.harvest.asking import Asking
from distill.harvest.budget import Spending
from distill.harvest.policy import Plan
from distill.harvest.runner import harvest
from distill.recipes import Budget
from distill.records import Problem, Sample, SamplingParams, TracePiece, Unanswered
from distill.store.ledger import Ledger

PLANS = {
    "fixed": Plan(3, (48,)),
    "adaptive": Plan(6, (48,), enough=2, hopeless_below=0.3, most_if_rare=9),
    "ladder, continued": Plan(5, (8, 16, 32), enough=2, can_continue=True),
    "ladder, drawn anew": Plan(6, (8, 16, 32), enough=2, hopeless_below=0.3),
}
COUNTED = (
    "samples", "outcomes", "finish_reasons", "families", "accepted", "completion_tokens", "cost_usd", "settled_by",
    "problems", "problems_covered", "problems_settled",
)  # fmt: skip


class Killed(BaseException):
    """The process is gone: nothing more is written."""


class Chancy:
    """What it says is decided by prompt and index alone; order, pauses, pieces and death by `seed`."""

    model = fingerprint = "chancy"

    def __init__(self, ledger, seed, *, can_continue, dies_after=None):
        self.ledger, self.chance, self.can_continue = ledger, random.Random(seed), can_continue
        self.dies_after, self.events = dies_after, 0
        self.finished, self.tokens = Counter(), 0

    def render(self, user_message):
        return user_message

    def close(self):
        """Nothing is held."""

    def sample(self, requests):
        source, active, is_over = iter(requests), [], False
        while True:
            while not is_over and len(active) < 7:
                item = next(source, is_over := StopIteration)
                is_over = item is StopIteration
                if is_over or item is None:
                    break
                active.append(self._begun(item, [key for _, key, _ in active]))
            if not active and is_over:
                return
            self.events += 1
            if self.dies_after is not None and self.events >= self.dies_after:
                raise KeyboardInterrupt
            if not active or self.chance.random() < 0.15:
                yield None
                continue
            yield from self._stepped(active, self.chance.randrange(len(active)))

    def _begun(self, request, active):
        key = request.key(self.fingerprint)
        assert key not in active and not self.ledger.get_samples([key]), "drawn although it is there"
        start = request.prefix.num_tokens if request.prefix and self.can_continue else 0
        if start:
            assert request.prefix.reasoning.strip() == said(request)[:start].strip()
        return request, key, start

    def _stepped(self, active, number):
        request, key, done = active.pop(number)
        text, limit = said(request), request.params.max_new_tokens
        fate = random.Random(f"fate {request.prompt} {request.index}").random()
        if fate < 0.05:
            yield Unanswered(key, request.problem_id, request.index, "no", is_refused=fate < 0.02)
            return
        until = min(done + self.chance.randint(1, 12), limit, len(text))
        self.tokens += until - done
        if until < min(limit, len(text)):
            active.append((request, key, until))
            if self.can_continue:
                yield self._piece(request, key, text, done, until)
            return
        self.finished[key] += 1
        yield sample_of(request, key, text[:until] + (answer_of(request) if until == len(text) else ""), until)

    @staticmethod
    def _piece(request, key, text, done, until):
        begins_here = done == (request.prefix.num_tokens if request.prefix else 0)
        if request.prefix and begins_here and request.prefix.key != key:
            return TracePiece(key, "fresh", text[:until], "", until)
        start = "more" if not begins_here else "spliced" if request.prefix else "fresh"
        return TracePiece(key, start, text[done:until], "", until - done)


def said(request):
    """The reasoning, a token a character; the answer is no token."""
    length = random.Random(f"length {request.prompt} {request.index}").randint(3, 44)
    return "abcdefghij"[request.index % 10] * length


def answer_of(request):
    chance = random.Random(f"right {request.prompt} {request.index}")
    rate = random.Random(request.prompt).choice([0.0, 0.2, 0.5, 1.0])
    return f"</think>\\boxed{{{'yes' if chance.random() < rate else 'no'}}}"


def sample_of(request, key, text, tokens):
    reasoning, answer = split_reasoning("<think>" + text)
    return Sample(
        key=key, model=Chancy.model, model_fingerprint=Chancy.fingerprint, problem_id=request.problem_id,
        prompt_hash=request.prompt_hash, index=request.index, seed=request.seed, params=request.params.to_dict(),
        text="<think>" + text, reasoning=reasoning, answer=answer, prompt_tokens=3, completion_tokens=tokens,
        finish_reason="stop" if answer else "length", seconds=0.1, cost_usd=tokens / 1024,
        created_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


class Dying:
    """A ledger whose process is killed at its n-th write: that one is lost, and so is all that follows."""

    def __init__(self, ledger, writes):
        self._ledger, self._writes = ledger, writes

    def __getattr__(self, name):
        method = getattr(self._ledger, name)
        return self._write(method) if name.startswith("add_") else method

    def _write(self, method):
        def write(*arguments):
            rows = list(arguments[-1])
            self._writes -= bool(rows)
            if self._writes < 0:
                raise Killed
            return method(*arguments[:-1], rows)

        return write


def problems_of(count, answer="yes"):
    return [
        Problem(f"p{number}", f"question {number}", answer, "exact", f"f{number % 2}", "chance", "test", "mit")
        for number in range(count)
    ]


def asking_of(plan):
    return Asking(plan, SamplingParams(1.0, 1.0, plan.rungs[-1]), 3, Chancy.fingerprint, lambda message: message)


def harvested(plan, ledger, problems, engine, **limits):
    """Summary and spending of one harvest."""
    spending = Spending(Budget(**limits), plan.rungs[0])
    return harvest(engine, ledger, problems, asking_of(plan), spending=spending, verify_workers=1), spending


def figures(summary):
    return {name: getattr(summary, name) for name in COUNTED}


@pytest.fixture(params=PLANS)
def plan(request):
    return PLANS[request.param]


@pytest.fixture
def whole(plan, tmp_path):
    """An undisturbed harvest: its figures and keys."""
    with Ledger.open(tmp_path / "whole.db", create=True) as ledger:
        engine = Chancy(ledger, 0, can_continue=plan.can_continue)
        summary, spending = harvested(plan, ledger, problems_of(16), engine)
        assert spending.tokens == summary.completion_tokens == engine.tokens
        assert spending.usd == pytest.approx(summary.cost_usd) == engine.tokens / 1024
        assert set(engine.finished.values()) == {1}
        return figures(summary), {sample.key for sample in ledger.samples()}


def test_interrupts_change_nothing_and_nothing_is_drawn_twice(plan, whole, tmp_path):
    chance, finished, tokens = random.Random(1), Counter(), 0
    with Ledger.open(tmp_path / "cut.db", create=True) as ledger:
        for _ in range(100):
            dies_after = chance.randint(20, 200)
            engine = Chancy(ledger, chance.random(), can_continue=plan.can_continue, dies_after=dies_after)
            try:
                summary, spending = harvested(plan, ledger, problems_of(16), engine)
                break
            except KeyboardInterrupt:
                continue
            finally:
                finished.update(engine.finished)
                tokens += engine.tokens
        assert (figures(summary), {sample.key for sample in ledger.samples()}) == whole
        assert spending.tokens == summary.completion_tokens
        assert set(finished.values()) == {1}
        if plan.can_continue:  # every token that was drawn is on disk: none was drawn twice
            assert tokens == summary.completion_tokens
        again, spending = harvested(plan, ledger, problems_of(16), engine)
        assert figures(again) == figures(summary) and spending.tokens == summary.completion_tokens


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the dead ledger, once more
def test_kills_between_writes_change_nothing(plan, whole, tmp_path):
    chance = random.Random(1)
    with Ledger.open(tmp_path / "cut.db", create=True) as ledger:
        for _ in range(100):
            engine = Chancy(ledger, chance.random(), can_continue=plan.can_continue)
            try:
                summary, spending = harvested(plan, Dying(ledger, chance.randint(2, 30)), problems_of(16), engine)
                break
            except Killed:
                continue
        assert (figures(summary), {sample.key for sample in ledger.samples()}) == whole
        assert spending.tokens == summary.completion_tokens


def test_budgets_end_it_near_their_limit_and_the_end_is_the_same(plan, whole, tmp_path):
    budget, finished = 300, Counter()
    with Ledger.open(tmp_path / "cut.db", create=True) as ledger:
        for _ in range(100):
            engine = Chancy(ledger, budget, can_continue=plan.can_continue)
            summary, spending = harvested(plan, ledger, problems_of(16), engine, tokens=budget)
            finished.update(engine.finished)
            if summary.stopped_by is None:
                break
            assert budget <= spending.tokens < budget + 7 * plan.rungs[-1]
            budget = spending.tokens + 300
        assert figures(summary) == whole[0] and set(finished.values()) == {1}


def test_other_answers_are_verified_again_and_paid_once(plan, whole, tmp_path):
    """Half of the gold answers change: verdicts are made again, further samples drawn, none counted twice."""
    changed = [replace(problem, answer="no") if at % 2 else problem for at, problem in enumerate(problems_of(16))]
    with Ledger.open(tmp_path / "fresh.db", create=True) as fresh:
        wanted, _ = harvested(plan, fresh, changed, Chancy(fresh, 1, can_continue=plan.can_continue))
    with Ledger.open(tmp_path / "whole.db") as ledger:
        engine = Chancy(ledger, 2, can_continue=plan.can_continue)
        summary, spending = harvested(plan, ledger, changed, engine)
        assert figures(summary) == figures(wanted)
        assert spending.tokens == summary.completion_tokens
        assert summary.samples_from_ledger > 0


def test_what_waits_for_a_verdict_is_bounded(tmp_path, monkeypatch):
    """All verdicts of a large ledger are out of date: its samples are read as verdicts come, not all at once."""
    plan = PLANS["fixed"]
    monkeypatch.setattr(runner, "PROBLEMS_PER_LOOK", 5)
    monkeypatch.setattr(runner, "UNVERIFIED_PER_WORKER", 10)
    waiting = []

    class Watched(runner.VerifierPool):
        def submit(self, problem, sample):
            super().submit(problem, sample)
            waiting.append(self.pending)

    monkeypatch.setattr(runner, "VerifierPool", Watched)
    with Ledger.open(tmp_path / "whole.db", create=True) as ledger:
        harvested(plan, ledger, problems_of(100), Chancy(ledger, 0, can_continue=False))
        waiting.clear()
        engine = Chancy(ledger, 1, can_continue=False)
        harvested(plan, ledger, problems_of(100, answer="no"), engine)
        assert len(waiting) > 200 and max(waiting) <= 10 + 5 * plan.most
        assert not engine.finished
