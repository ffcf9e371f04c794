"""Accuracy against a budget of thinking tokens: thoughts that were drawn are cut, closed, and answered.

    pairs = recorded_samples(result.tasks["tiny"], ledger, problems)
    points = force_closed_curve(engine, ledger, pairs, [16, 32, 64], reasoning=card.reasoning, answer_tokens=32)
    curves = with_force_closed(curves_of(result), "tiny", points)

At budget B a completion whose thought is longer than B tokens is cut there, its thought is closed with the model's
marker, and the answer that follows is drawn: short requests over thoughts that are paid for. One whose thought ended
by itself keeps its own answer, if that has at most `answer_tokens` beyond the budget; one without a thought counts if
it was right within B tokens. A thought that the token limit cut is closed at its end.
Source: budget forcing of Muennighoff et al., https://arxiv.org/abs/2501.19393, section 3.1 (only the end is forced;
appending "Wait" to go on is not covered). Their "Final Answer:" opens the answer where an engine needs some text.

A force-closed sample is a sample: it is in the ledger, and a second run draws nothing. Its parameters name the sample
it was made of, the budget and the closing text, so its key is no ordinary sample's, whatever the token limit.
Where a text is cut is exact or an error: by the engine's tokenizer, one that you give (`first_tokens`), or the tokens
that a server sent with log-probabilities; never by a share of characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from distill.cards import ReasoningFormat
from distill.engines.base import Engine, sample_through_ledger
from distill.errors import ConfigError, TeacherError
from distill.evaluate import metrics
from distill.evaluate.curves import BudgetPoint, score_at_budget
from distill.evaluate.going_on import ReadsText, TextContinuation
from distill.evaluate.result import TaskResult
from distill.records import PartialTrace, Problem, Sample, SampleRequest, SamplingParams, Verdict, stable_hash
from distill.store.ledger import Ledger
from distill.verify.pool import VerifierPool

FirstTokens = Callable[[str, int], str]
Pair = tuple[Problem, Sample]
Verify = Callable[[Iterable[Pair]], Iterable[Verdict]]
ANSWER_OPENING = "Final Answer:"
"""Of the paper; servers cannot be told that a thought is closed without some text behind it."""


@dataclass(frozen=True, slots=True)
class ForceClosedParams(SamplingParams):
    """How a force-closed sample is drawn: as the sample it was made of, and what makes it another one."""

    force_closed_sample: str
    at_tokens: int
    closing: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One sample at one budget; `score` is None until its answer is drawn."""

    score: float | None
    num_tokens: int
    has_ended: bool
    request: SampleRequest | None = None


def recorded_samples(task: TaskResult, ledger: Ledger, problems: Iterable[Problem]) -> list[Pair]:
    """An evaluation's samples with their problems. Raises: ConfigError where problem or sample is not there."""
    by_id = {problem.id: problem for problem in problems}
    found = ledger.get_samples(key for item in task.items for key in item.sample_keys)
    pairs = []
    for item in task.items:
        missing = [key for key in item.sample_keys if key not in found]
        if item.problem_id not in by_id or missing:
            what = f"{len(missing)} samples of item" if missing else "the problem of item"
            raise ConfigError(
                f"{ledger.path}: task {task.task}: {what} {item.problem_id} not found; "
                "give the ledger and the task file that this evaluation was made with."
            )
        pairs += [(by_id[item.problem_id], found[key]) for key in item.sample_keys]
    return pairs


def force_closed_curve(
    engine: Engine,
    ledger: Ledger,
    pairs: Sequence[Pair],
    budgets: Sequence[int],
    *,
    reasoning: ReasoningFormat,
    answer_tokens: int = 64,
    answer_opening: str | None = None,
    first_tokens: FirstTokens | None = None,
    verify: Verify | None = None,
) -> list[BudgetPoint]:
    """A point per budget; accuracy is over (items x most samples of an item), so that a missing one counts as wrong.

    `share_finished` of the samples had ended their thought by themselves; `mean_tokens` counts what was kept of a
    thought and the answer, not the closing text. `answer_opening` stands before the drawn answer (default: nothing,
    at endpoints `ANSWER_OPENING`). `verify` defaults to a pool of two workers.
    Raises: ConfigError (no samples, other model's samples, budgets outside what was drawn, tokens that are not known),
    TeacherError (an engine that cannot go on from a closed thought, a context that is too short).
    """
    closer = _Closer(engine, ledger, reasoning, answer_tokens, answer_opening, first_tokens)
    _check(engine, pairs, budgets, answer_tokens)
    if verify is None:
        with VerifierPool(2) as pool:
            return _curve(closer, pairs, budgets, pool.verify_many)
    return _curve(closer, pairs, budgets, verify)


def _check(engine: Engine, pairs: Sequence[Pair], budgets: Sequence[int], answer_tokens: int) -> None:
    if not pairs or not budgets:
        raise ConfigError("force-close: there is nothing to do; give samples and at least one budget.")
    if answer_tokens < 1:
        raise ConfigError(f"force-close: answer_tokens: expected at least 1, found {answer_tokens}.")
    limit = min(int(sample.params["max_new_tokens"]) for _, sample in pairs)
    for budget in budgets:
        if not 1 <= budget <= limit:
            raise ConfigError(f"force-close: budget {budget}: these samples were drawn with {limit} tokens at most.")
    for problem, sample in pairs:
        prompt_hash = SampleRequest(problem.id, engine.render(problem.prompt), 0, SamplingParams(0, 1, 1)).prompt_hash
        if sample.model_fingerprint != engine.fingerprint or sample.prompt_hash != prompt_hash:
            raise ConfigError(
                f"force-close: sample {sample.key[:12]} of problem {problem.id} was drawn from another model or prompt "
                f"than {engine.model} has now; give the engine of the evaluation."
            )


def _curve(closer: _Closer, pairs: Sequence[Pair], budgets: Sequence[int], verify: Verify) -> list[BudgetPoint]:
    own = {verdict.sample_key: verdict for verdict in verify(pairs)}
    outcomes = {
        budget: [closer.outcome(problem, sample, own[sample.key], budget) for problem, sample in pairs]
        for budget in budgets
    }
    answered = closer.answered(pairs, [each for row in outcomes.values() for each in row], verify)
    items: dict[str, list[int]] = {}
    for at, (problem, _) in enumerate(pairs):
        items.setdefault(problem.id, []).append(at)
    return [_point(budget, [answered(each) for each in row], list(items.values())) for budget, row in outcomes.items()]


def _point(budget: int, row: Sequence[_Outcome], items: Sequence[Sequence[int]]) -> BudgetPoint:
    """The point of all samples' outcomes; `items` are the places of each item's samples."""
    n = max(map(len, items))
    correct = [sum((row[at].score or 0.0) > 0 for at in places) for places in items]
    return BudgetPoint(
        budget,
        sum(correct) / (n * len(items)),
        metrics.population_interval(correct, n),
        metrics.benchmark_interval(correct, n),
        sum(each.has_ended for each in row) / (n * len(items)),
        sum(each.num_tokens for each in row) / len(row),
    )


class _Closer:
    """Closes thoughts of one engine's samples."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        reasoning: ReasoningFormat,
        answer_tokens: int,
        answer_opening: str | None,
        first_tokens: FirstTokens | None,
    ) -> None:
        reads_text = isinstance(engine, ReadsText)
        if not reads_text and not (engine.can_continue and getattr(engine, "continues_answers", True)):
            raise TeacherError(
                f"{engine.model}: force-close: this server does not go on from a closed thought, so no answer can be "
                "drawn; use the cut curve, a server with prefix completion, or the model in this process."
            )
        self.engine = TextContinuation(engine, reasoning) if reads_text else engine
        opening = ("" if reads_text else ANSWER_OPENING) if answer_opening is None else answer_opening
        if not reads_text and not opening.strip():
            raise ConfigError(f"force-close: answer_opening: a server needs some text; use '{ANSWER_OPENING}'.")
        self._opening, self._reasoning, self._answer_tokens = opening, reasoning, answer_tokens
        self._ledger = ledger
        self._first_tokens = first_tokens or (engine.first_tokens if isinstance(engine, ReadsText) else None)

    def outcome(self, problem: Problem, sample: Sample, verdict: Verdict, budget: int) -> _Outcome:
        """What a budget makes of a sample: its own score, or the request whose answer will tell."""
        if sample.reasoning is None:
            within = sample.completion_tokens <= budget
            score = score_at_budget(sample, verdict, budget)
            return _Outcome(score, min(budget, sample.completion_tokens), within and sample.answer is not None)
        thought = self._thought_within(sample, budget)
        if thought is None:
            most = budget + self._answer_tokens
            return _Outcome(score_at_budget(sample, verdict, most), min(most, sample.completion_tokens), True)
        kept = min(budget, sample.completion_tokens)
        return _Outcome(None, kept, False, self._request(problem, sample, thought, kept, budget))

    def _request(self, problem: Problem, sample: Sample, thought: str, kept: int, budget: int) -> SampleRequest:
        params = ForceClosedParams(
            temperature=sample.params["temperature"],
            top_p=sample.params["top_p"],
            max_new_tokens=kept + self._answer_tokens,
            force_closed_sample=sample.key,
            at_tokens=kept,
            closing=f"{self._reasoning.close_marker}{self._opening}",
        )
        run_seed = int(stable_hash("force-close", sample.key, budget, length=12), 16)
        prefix = PartialTrace(sample.key, thought or "\n", self._opening, kept)
        return SampleRequest(
            problem.id, self.engine.render(problem.prompt), sample.index, params, run_seed, prefix=prefix
        )

    def _thought_within(self, sample: Sample, budget: int) -> str | None:
        """The thought up to the budget; None where it ended by itself before. Raises: ConfigError if not known."""
        assert sample.reasoning is not None
        if sample.completion_tokens <= budget:
            return sample.reasoning if sample.answer is None else None
        head = self._head(sample, budget).lstrip()
        body = head.removeprefix(self._reasoning.open_marker)
        body = "" if self._reasoning.open_marker.startswith(head) else body.strip()
        if self._reasoning.close_marker in body:
            return None
        if sample.reasoning.startswith(body):
            return body
        if sample.answer is not None and body.startswith(sample.reasoning):
            return None
        raise ConfigError(
            f"force-close: sample {sample.key[:12]}: its first {budget} tokens are not the beginning of its thought; "
            "the server sent other tokens than text. Give the model's tokenizer as first_tokens."
        )

    def _head(self, sample: Sample, budget: int) -> str:
        if self._first_tokens is not None:
            return self._first_tokens(sample.text, budget)
        logprobs = self._ledger.get_logprobs([sample.key]).get(sample.key)
        if not logprobs:
            raise ConfigError(
                f"force-close: sample {sample.key[:12]}: where its tokens end is not known, there are no log-"
                "probabilities of it in the ledger. Give the model's tokenizer as first_tokens, or sample with "
                "endpoint.top_logprobs."
            )
        return "".join(str(entry["token"]) for entry in logprobs[:budget])

    def answered(
        self, pairs: Sequence[Pair], outcomes: Sequence[_Outcome], verify: Verify
    ) -> Callable[[_Outcome], _Outcome]:
        """Draw the answers that the ledger does not have; what turns an outcome into one that has its score."""
        requests = [each.request for each in outcomes if each.request is not None]
        asked = {request.key(self.engine.fingerprint): request for request in requests}
        problems = {problem.id: problem for problem, _ in pairs}
        drawn = {sample.key: sample for sample in sample_through_ledger(self.engine, self._ledger, requests)}
        for sample in drawn.values():
            self._check_thought(asked[sample.key], sample)
        verdicts = list(verify((problems[sample.problem_id], sample) for sample in drawn.values()))
        self._ledger.add_verdicts(verdicts)
        correct = {verdict.sample_key for verdict in verdicts if verdict.outcome == "correct"}

        def resolve(outcome: _Outcome) -> _Outcome:
            if outcome.request is None:
                return outcome
            key = outcome.request.key(self.engine.fingerprint)
            num_tokens = drawn[key].completion_tokens if key in drawn else outcome.num_tokens
            return replace(outcome, score=float(key in correct), num_tokens=num_tokens)

        return resolve

    def _check_thought(self, request: SampleRequest, sample: Sample) -> None:
        assert request.prefix is not None
        if (sample.reasoning or "").strip() != request.prefix.reasoning.strip():
            raise TeacherError(
                f"{self.engine.model}: force-close: asked to answer after a closed thought, it thought again or "
                f"started anew (problem {sample.problem_id}, {request.prefix.num_tokens} tokens kept); use the cut "
                "curve, or the model in this process."
            )
