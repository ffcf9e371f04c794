"""A model in a sequential gate: where its samples come from, round by round.

    Contestant("student", model="mine", identity=engine.fingerprint, params=params, run_seed=0, ledger=ledger,
               opener=EngineOpener(lambda: engine))
    recorded(ledger, model="tiny")            # a harvest's or an evaluation's samples; nothing is drawn

What was recorded comes first, by key, and needs no engine, no torch and no GPU; then the engine is opened, if there is
one, and draws the rounds that follow.
Not covered: opening engines (`distill/models.py`), and closing them: whoever made the opener does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from distill.engines.base import Engine
from distill.errors import GateError, did_you_mean
from distill.evaluate.result import EvalResult
from distill.gate.rounds import CompleteRound, GivenUp, complete_rounds, recorded_rounds
from distill.records import Problem, Sample, SamplingParams, stable_hash
from distill.store.ledger import Ledger
from distill.verify.second_extract import Verify

Keys = dict[str, dict[int, str]]
"""Sample keys by problem id and index."""


class EngineOpener:
    """Opens an engine when it is first needed, and once; `engine` is None until then."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine
        self.engine: Engine | None = None

    def __call__(self) -> Engine:
        if self.engine is None:
            self.engine = self._open()
        return self.engine

    def close(self) -> None:
        """Close what was opened."""
        if self.engine is not None:
            self.engine.close()


@dataclass(frozen=True)
class Contestant:
    """One model. `identity` changes with weights, tokenizer and template; with the parameters it names the evidence."""

    who: str
    model: str
    identity: str
    params: SamplingParams
    run_seed: int
    ledger: Ledger
    keys: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    opener: EngineOpener | None = None
    render: Callable[[str], str] | None = None
    """The chat template, where it is at hand without the model: recorded samples must have been asked with it."""
    items_hashes: Mapping[str, str] = field(default_factory=dict)
    """By task, of the items that recorded samples answer."""

    @property
    def engine(self) -> Engine | None:
        """The engine, where one was opened."""
        return None if self.opener is None else self.opener.engine

    @property
    def evidence_identity(self) -> str:
        """What the evidence is about; the seed is no part of it, or another seed would be another try."""
        return stable_hash(self.identity, self.params.to_dict())

    def rounds(
        self, problems: Mapping[str, Problem], *, verify: Verify, max_rounds: int, given_up: GivenUp
    ) -> Generator[CompleteRound]:
        """Complete rounds from the first on: recorded ones, then drawn ones. Raises: as `complete_rounds`."""
        number = 0
        with closing(recorded_rounds(self.keys, self.ledger, problems, verify=verify, given_up=given_up)) as known:
            for each in known:
                if number >= max_rounds:
                    return
                yield each
                number += 1
        if self.opener is None or number >= max_rounds:
            return
        engine = self.opener()
        self._check(engine, number)
        yield from complete_rounds(
            engine,
            self.ledger,
            problems,
            self.params,
            run_seed=self.run_seed,
            verify=verify,
            first_round=number,
            max_rounds=max_rounds,
            given_up=given_up,
        )

    def _check(self, engine: Engine, num_recorded: int) -> None:
        if engine.fingerprint != self.identity:
            raise GateError(
                f"gate: the {self.who} ({engine.model}) is not the model that was evaluated before: "
                f"{num_recorded} rounds are of {self.identity}, this one is {engine.fingerprint}. Evaluate it again, "
                "or use another --out."
            )


def evaluated(who: str, result: EvalResult, ledger: Ledger, opener: EngineOpener | None = None) -> Contestant:
    """A model with the samples that its evaluation drew; `ledger` holds them."""
    keys: Keys = {}
    for task in result.tasks.values():
        for item in task.items:
            samples = ledger.get_samples(item.sample_keys)
            keys[item.problem_id] = {sample.index: key for key, sample in samples.items()}
    params = SamplingParams(**result.params)
    hashes = {name: task.items_hash for name, task in result.tasks.items()}
    identity, seed = result.model_fingerprint, result.run_seed
    return Contestant(who, result.model, identity, params, seed, ledger, keys, opener, items_hashes=hashes)


def recorded(
    who: str,
    ledger: Ledger,
    problems: Collection[str],
    model: str | None = None,
    template_of: Callable[[str], Callable[[str], str] | None] | None = None,
) -> Contestant:
    """A model whose samples of these problems are in a ledger, drawn by a harvest or an evaluation.

    `template_of` gives the chat template of a model's name where it is at hand, to check the prompts by. Raises:
    GateError where there are none, or where several models or settings have them and `model` names none.
    """
    wanted = set(problems)
    found: dict[tuple[str, str], _Group] = {}
    names: set[str] = set()
    for sample in ledger.samples():
        names.add(sample.model)
        if sample.problem_id in wanted and model in (None, sample.model, sample.model_fingerprint):
            group = found.setdefault((sample.model_fingerprint, stable_hash(sample.params)), _Group(sample))
            group.add(sample)
    if not found:
        hint = did_you_mean(model, names) if model and model not in names else ""
        known = f"; it has samples of {', '.join(sorted(names)) or 'nothing'}."
        of = f" of {model}" if model else ""
        raise GateError(
            f"gate: {ledger.path} has no samples{of} for the gate's {len(wanted)} items"
            f"{hint or known} Name a ledger that has these "
            "items, or a model that can be sampled."
        )
    best = sorted(found.values(), key=lambda group: len(group.keys), reverse=True)
    if len(best) > 1 and len(best[0].keys) == len(best[1].keys):
        several = "; ".join(group.described for group in best[:3])
        raise GateError(
            f"gate: {ledger.path} has as many samples of these items from several models or settings: {several}. "
            "Name one by its name or its hash, LEDGER.db#MODEL."
        )
    chosen = best[0]
    first, num_missing = chosen.first, len(wanted - chosen.keys.keys())
    if num_missing:
        missing = sorted(wanted - chosen.keys.keys())[0]
        raise GateError(
            f"gate: {ledger.path}: {first.model} has samples of {len(chosen.keys)} of {len(wanted)} items, none of "
            f"{missing}; only complete rounds count. Sample the rest, or choose a gate of the tasks that are there."
        )
    render = None if template_of is None else template_of(first.model)
    params = SamplingParams(**first.params)
    return Contestant(who, first.model, first.model_fingerprint, params, 0, ledger, chosen.keys, render=render)


class _Group:
    """The samples of one model at one setting."""

    def __init__(self, first: Sample) -> None:
        self.first = first
        self.keys: Keys = {}

    @property
    def described(self) -> str:
        params = ", ".join(f"{name} {value}" for name, value in self.first.params.items())
        return f"{self.first.model} (hash {self.first.model_fingerprint}) at {params}"

    def add(self, sample: Sample) -> None:
        self.keys.setdefault(sample.problem_id, {}).setdefault(sample.index, sample.key)
