"""Asks a judge model whether final answers equal the gold answers, where the verifier could not say: the last resort.

    with closing(open_judge(settings, endpoint)) as engine:
        summary = judge_samples(engine, ledger, cases, settings, run_seed=17)     # cases: (problem, sample, verdict)

The judge's completions go through the ledger like any other (problem id "judge:KEY OF THE SAMPLE"): a rerun pays for
none twice, and each can be read again. Its verdicts have the verifier name "judge", a version that names the model, the
prompt, the votes and the problem, and never replace the verifier's: which of the two counts is `standing.py`'s rule.
Not covered: problems without a gold answer, code, and proofs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from distill.cards import ReasoningFormat, load_teacher
from distill.engines.base import Engine, draw
from distill.errors import ProblemError
from distill.recipes import Endpoint, Judge
from distill.records import Outcome, Problem, Sample, SampleRequest, SamplingParams, Verdict, stable_hash
from distill.store.ledger import JUDGE, Ledger
from distill.verify.judge_agreement import DECIDED, JudgeAgreement
from distill.verify.judge_prompt import (
    PROMPT_HASH,
    Opinion,
    has_own_verdict,
    judge_prompt,
    outcome_of,
    read_reply,
    shown_answer,
)
from distill.verify.standing import problem_mark

REVISION = 1
VERDICTS_PER_COMMIT = 64
CASES_PER_LOOKUP = 256

Case = tuple[Problem, Sample, Verdict]
"""A sample with the verifier's verdict on it."""


@dataclass(slots=True)
class JudgeSummary:
    """What a judge was asked, said and cost; counted apart from the verifier's figures."""

    judge: str
    """Name of the model."""
    identity: str
    """Model fingerprint, prompt and votes: the start of its verdicts' version, and what `JudgeRule` takes."""
    judged: int = 0
    """Verdicts of this judge on the cases given, new and from the ledger."""
    from_ledger: int = 0
    turned: Counter[str] = field(default_factory=Counter)
    """Outcomes that the judge's stands in the place of: "undecided -> correct"."""
    not_asked: Counter[str] = field(default_factory=Counter)
    """Cases that were to be judged and were not, by reason."""
    malformed: int = 0
    """Votes that did not end in the one line asked for; they count as "cannot tell"."""
    completion_tokens: int = 0
    cost_usd: float = 0.0
    agreement: JudgeAgreement = field(default_factory=JudgeAgreement)

    def to_dict(self) -> dict[str, Any]:
        """JSON-clean."""
        return {
            "judge": self.judge,
            "identity": self.identity,
            "judged": self.judged,
            "from_ledger": self.from_ledger,
            "turned": dict(sorted(self.turned.items())),
            "not_asked": dict(sorted(self.not_asked.items())),
            "malformed": self.malformed,
            "completion_tokens": self.completion_tokens,
            "cost_usd": round(self.cost_usd, 6),
            "agreement": self.agreement.to_dict(),
        }

    def __str__(self) -> str:
        turned = ", ".join(f"{change} {count}" for change, count in sorted(self.turned.items())) or "nothing"
        rest = "".join(f"; {count} not asked: {reason}" for reason, count in sorted(self.not_asked.items()))
        malformed = f"; {self.malformed} malformed replies" if self.malformed else ""
        return (
            f"judge {self.judge}: {self.judged} verdicts, {self.from_ledger} from the ledger; turned: {turned}"
            f"{malformed}{rest}\n{self.agreement}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{str(self).splitlines()[0]}</p>{self.agreement._repr_html_()}"


def open_judge(settings: Judge, endpoint: Endpoint, *, base_dir: Path = Path()) -> Engine:
    """The judge's engine: its endpoint, probed, or a model loaded here.

    Limits of time and attempts are the recipe's `endpoint`; key, extra body and number in flight are the judge's own.
    Raises: ConfigError, CatalogError, TeacherError, InfrastructureError.
    """
    thinking = ReasoningFormat(open_marker="<think>", close_marker="</think>", opened_by_prompt=False)
    if settings.base_url is not None:
        from distill.engines.endpoint import EndpointEngine

        own = {"api_key_env": settings.api_key_env, "extra_body": settings.extra_body, "top_logprobs": 0}
        return EndpointEngine.open(
            [settings.base_url],
            name=None,
            served=settings.model,
            reasoning=thinking,
            settings=endpoint.model_copy(update={**own, "max_in_flight": settings.max_in_flight}),
            params=params_of(settings),
            require_reasoning=False,
        )
    from distill.engines.local import LocalEngine

    assert settings.model is not None, "Judge has a base_url or a model"
    if (base_dir / settings.model / "config.json").is_file():
        location = str(base_dir / settings.model)
        return LocalEngine.open(location, name=Path(location).name, reasoning=thinking, batch_size=settings.batch_size)
    card = load_teacher(settings.model)
    return LocalEngine.open(
        card.model_location,
        name=card.name,
        reasoning=card.reasoning,
        revision=card.revision,
        batch_size=settings.batch_size,
    )


def params_of(settings: Judge) -> SamplingParams:
    """How the judge's replies are drawn."""
    return SamplingParams(settings.temperature, 1.0, settings.max_new_tokens)


def identity_of(engine: Engine, settings: Judge) -> str:
    """Changes with the judge's model, the prompt, the votes and how they are drawn."""
    drawn = f"t-{settings.temperature:g}-{settings.max_new_tokens}"
    return f"{REVISION}+model-{engine.fingerprint}+prompt-{PROMPT_HASH}+votes-{settings.votes}+{drawn}"


def role_of(settings: Judge, verdict: Verdict) -> Literal["asked", "check", ""]:
    """Why a sample is judged: the recipe asks about its outcome, it is in the share that is checked, or not at all.

    The share is drawn by the sample's key: the same in every rerun.
    """
    if verdict.outcome in settings.outcomes:
        return "asked"
    drawn = int(stable_hash("judge check", verdict.sample_key, length=8), 16) / 2**32
    return "check" if verdict.outcome in DECIDED and drawn < settings.check_share else ""


def judge_samples(
    engine: Engine, ledger: Ledger, cases: Iterable[Case], settings: Judge, *, run_seed: int
) -> JudgeSummary:
    """Judge every case that the settings ask for and that this judge has not judged yet; cases may be a stream.

    Verdicts are on disk when it returns, and every 64 of them before. What was interrupted goes on with the same call.
    Raises: ProblemError if no problem among the cases to judge has a gold answer; what the engine raises.
    """
    court = _Court(engine, ledger, settings, run_seed)
    try:
        for item in draw(engine, ledger, court.requests(cases)):
            if isinstance(item, Sample):
                court.hear(item)
            elif item is None:
                court.commit()
    finally:
        court.commit()
    return court.close()


@dataclass(slots=True)
class _Ballot:
    """One sample under judgement: its votes as they come in."""

    problem: Problem
    verdict: Verdict
    version: str
    keys: tuple[str, ...]
    opinions: dict[str, Opinion | None] = field(default_factory=dict)


class _Court:
    """The ballots under way. Two samples of a problem with the same final answer wait for the same replies."""

    def __init__(self, engine: Engine, ledger: Ledger, settings: Judge, run_seed: int) -> None:
        self.engine, self.ledger, self.settings, self.run_seed = engine, ledger, settings, run_seed
        self.summary = JudgeSummary(engine.model, identity_of(engine, settings))
        self.waiting: dict[str, list[_Ballot]] = {}  # by key of the judge's sample
        self.unwritten: list[Verdict] = []

    def requests(self, cases: Iterable[Case]) -> Iterator[SampleRequest]:
        """Requests of the cases that are to be judged and whose replies nobody has asked for, as there is room.

        The ballots of a batch are opened before any of it is asked, so that two that wait for one reply ask once.
        """
        source = iter(cases)
        while batch := list(islice(source, CASES_PER_LOOKUP)):
            wanted = [case for case in batch if role_of(self.settings, case[2])]
            known = self.ledger.get_all_verdicts([sample.key for _, sample, _ in wanted])
            missing: dict[str, SampleRequest] = {}
            for problem, sample, verdict in wanted:
                missing |= self._open(problem, sample, verdict, known.get(sample.key, ()))
            for reply in self.ledger.get_samples(missing).values():
                del missing[reply.key]
                self.hear(reply)
            yield from missing.values()

    def _open(
        self, problem: Problem, sample: Sample, verdict: Verdict, known: Iterable[Verdict]
    ) -> dict[str, SampleRequest]:
        """The requests, by key, that a case adds to those under way."""
        shown = shown_answer(sample, verdict.extracted)
        is_aborted = sample.finish_reason == "aborted"
        if problem.answer is None or shown is None or is_aborted or has_own_verdict(shown):
            self.summary.not_asked[_why_not(problem, shown, is_aborted)] += 1
            return {}
        version = self._version(problem, shown)
        before = [each for each in known if each.verifier == JUDGE and each.version == version]
        if before:
            self.summary.from_ledger += 1
            self._count(verdict, before[0])
            return {}
        prompt, params = self.engine.render(judge_prompt(problem, shown)), params_of(self.settings)
        votes = range(self.settings.votes)
        asked = [SampleRequest(f"judge:{sample.key}", prompt, vote, params, self.run_seed) for vote in votes]
        by_key = {request.key(self.engine.fingerprint): request for request in asked}
        ballot = _Ballot(problem, verdict, version, tuple(by_key))
        new = {key: request for key, request in by_key.items() if key not in self.waiting}
        for key in by_key:
            self.waiting.setdefault(key, []).append(ballot)
        return new

    def _version(self, problem: Problem, shown: str) -> str:
        return f"{self.summary.identity}+shown-{stable_hash(shown, length=8)}+{problem_mark(problem)}"

    def hear(self, sample: Sample) -> None:
        """Take a reply into every ballot that waits for it."""
        ballots = self.waiting.pop(sample.key, [])
        if not ballots:
            return
        opinion = read_reply(sample.answer)
        self.summary.malformed += opinion is None
        self.summary.completion_tokens += sample.completion_tokens
        self.summary.cost_usd += sample.cost_usd or 0.0
        for ballot in ballots:
            ballot.opinions[sample.key] = opinion
            if len(ballot.opinions) == len(ballot.keys):
                self._decide(ballot)

    def _decide(self, ballot: _Ballot) -> None:
        opinions = [ballot.opinions[key] for key in ballot.keys]
        said = ", ".join("malformed" if opinion is None else opinion for opinion in opinions)
        self._say(ballot, outcome_of(opinions), f"{said}; the judge's samples: {', '.join(ballot.keys)}")

    def _say(self, ballot: _Ballot, outcome: Outcome, detail: str) -> None:
        verdict = Verdict(
            sample_key=ballot.verdict.sample_key,
            verifier=JUDGE,
            version=ballot.version,
            outcome=outcome,
            score=float(outcome == "correct"),
            extracted=ballot.verdict.extracted,
            detail=f"judged by {self.engine.model}, on {ballot.verdict.outcome}: {detail}",
        )
        self._count(ballot.verdict, verdict)
        self.unwritten.append(verdict)
        if len(self.unwritten) >= VERDICTS_PER_COMMIT:
            self.commit()

    def _count(self, own: Verdict, judged: Verdict) -> None:
        self.summary.judged += 1
        self.summary.agreement.add(own.outcome, judged.outcome)
        if own.outcome in self.settings.outcomes and judged.outcome in DECIDED and judged.outcome != own.outcome:
            self.summary.turned[f"{own.outcome} -> {judged.outcome}"] += 1

    def commit(self) -> None:
        self.ledger.add_verdicts(self.unwritten)
        self.unwritten = []

    def close(self) -> JudgeSummary:
        """The summary. Raises: ProblemError where all there was to judge had no gold answer."""
        not_drawn = len({id(ballot) for ballots in self.waiting.values() for ballot in ballots})
        if not_drawn:
            self.summary.not_asked["the judge gave no reply"] += not_drawn
        without_gold = self.summary.not_asked["no gold answer"]
        if without_gold and not self.summary.judged and self.summary.not_asked.total() == without_gold:
            raise ProblemError(
                f"judge {self.summary.judge}: none of the {without_gold} samples to judge has a gold answer to compare "
                "with; give their source an answer column, or remove harvest.judge."
            )
        return self.summary


def _why_not(problem: Problem, shown: str | None, is_aborted: bool) -> str:
    if problem.answer is None:
        return "no gold answer"
    if is_aborted:
        return "the completion was aborted"
    return "no text after the reasoning" if shown is None else "the answer brings a verdict line of its own"
