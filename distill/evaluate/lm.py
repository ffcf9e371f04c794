"""lm-eval's model class over an engine and the ledger: lm-eval asks, the ledger answers or the engine samples.

    lm = EngineLM(engine, ledger, params, run_seed=0)
    lm_eval.evaluator.evaluate(lm, TaskManager(...).load([...]), apply_chat_template=True, bootstrap_iters=0)
    RecordedLM(seen)                                   # the same for samples that were drawn and scored before

lm-eval hands over the k clones of a request adjacent and without a number; they become indexes 0..k-1 here, so each has
a seed and a ledger key of its own and a second evaluation draws nothing. Completions go back as `Completion`, a text
that carries its sample (tokens, finish reason) and verdict through lm-eval's filters to the metrics. The stop strings
of lm-eval's own tasks act on the finished answer (`stop_strings.py`); a task of problems must have none.
Not covered: tasks that ask for log-likelihoods; prompts of several turns (few-shot examples stand in the user message
with `fewshot_as_multiturn=False`), system messages, started answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from distill.engines.base import Drawing, Engine, sample_through_ledger
from distill.errors import ConfigError
from distill.evaluate.documents import problem_of
from distill.evaluate.observation import Observation
from distill.evaluate.stop_strings import finished_text
from distill.records import Problem, Sample, SampleRequest, SamplingParams, Verdict
from distill.store.ledger import Ledger

Verify = Callable[[Iterable[tuple[Problem, Sample]]], Iterable[Verdict]]


class Completion(str):
    """Text of a sample with the sample and its verdict; both None where the engine returned nothing.

    One that was scored before carries what was seen of it in the place of sample and text.
    """

    sample: Sample | None = None
    verdict: Verdict | None = None
    seen: Observation | None = None
    is_cut: bool = False
    """Whether a stop string of the task took something off the answer."""

    @staticmethod
    def of(sample: Sample | None, verdict: Verdict | None = None) -> Completion:
        completion = Completion(sample.text if sample is not None else "")
        completion.sample, completion.verdict = sample, verdict
        return completion

    @staticmethod
    def scored(seen: Observation | None) -> Completion:
        completion = Completion(seen.text_hash if seen is not None else "")
        completion.seen = seen
        return completion

    @staticmethod
    def finished(sample: Sample | None, until: str | Sequence[str]) -> Completion:
        """What a task that is not made of problems reads: the answer alone, cut at the task's stop strings."""
        completion = Completion(finished_text(sample, until) if sample is not None else "")
        completion.sample = sample
        completion.is_cut = sample is not None and str(completion) != finished_text(sample, ())
        return completion


class CountingEngine:
    """An engine that counts what it draws."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.model, self.fingerprint, self.can_continue = engine.model, engine.fingerprint, engine.can_continue
        self.samples_drawn = 0

    def render(self, user_message: str) -> str:
        return self._engine.render(user_message)

    def sample(self, requests: Iterable[SampleRequest | None]) -> Iterator[Drawing]:
        for item in self._engine.sample(requests):
            self.samples_drawn += isinstance(item, Sample)
            yield item

    def close(self) -> None:
        self._engine.close()


class EngineLM(LM):
    """An engine as lm-eval sees it. With `verify`, completions of documents that hold problems carry verdicts."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        params: SamplingParams,
        *,
        run_seed: int,
        verify: Verify | None = None,
        on_sample: Callable[[Sample], None] | None = None,
    ) -> None:
        super().__init__()
        self.engine = CountingEngine(engine)
        self.num_answered = 0
        self._ledger, self._params, self._run_seed = ledger, params, run_seed
        self._verify, self._on_sample = verify, on_sample

    @property
    def tokenizer_name(self) -> str:
        return self.engine.fingerprint

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        roles = [turn["role"] for turn in chat_history]
        if roles != ["user"] or not add_generation_prompt:
            raise ConfigError(
                f"task: found turns {', '.join(roles)}; engines render one user message. Put instructions in the "
                "prompt, few-shot examples too (fewshot_as_multiturn false); use no description and no gen_prefix."
            )
        return self.engine.render(chat_history[0]["content"])

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """A completion for every request, in order; samples and verdicts are in the ledger when it returns."""
        asked = self._number(requests)
        keys = [request.key(self.engine.fingerprint) for request in asked]
        samples: dict[str, Sample] = {}
        for sample in sample_through_ledger(self.engine, self._ledger, asked):
            samples[sample.key] = sample
            if self._on_sample is not None:
                self._on_sample(sample)
        self.num_answered += len(samples)
        verdicts = self._verdicts(requests, keys, samples)
        return [
            Completion.of(samples.get(key), verdicts.get((_task(instance), key)))
            if problem_of(instance.doc) is not None
            else Completion.finished(samples.get(key), instance.args[1].get("until") or ())
            for instance, key in zip(requests, keys, strict=True)
        ]

    def _number(self, requests: Sequence[Instance]) -> list[SampleRequest]:
        seen: Counter[tuple[str, Any]] = Counter()
        numbered = []
        for instance in requests:
            prompt, settings = instance.args
            place = (_task(instance), instance.doc_id)
            problem = problem_of(instance.doc)
            if settings.get("until") and problem is not None:
                raise ConfigError(
                    f"task {_task(instance)}: until: found {settings['until']}; expected [] because a verifier reads "
                    "the whole completion. Write `generation_kwargs: {until: []}`."
                )
            name = problem.id if problem is not None else f"{place[0]}/{place[1]}"
            numbered.append(SampleRequest(name, prompt, seen[place], self._params, self._run_seed))
            seen[place] += 1
        return numbered

    def _verdicts(
        self, requests: Sequence[Instance], keys: Sequence[str], samples: dict[str, Sample]
    ) -> dict[tuple[str, str], Verdict]:
        """Verdicts by (task, sample key): two tasks may put the same question and hold different answers to it."""
        if self._verify is None:
            return {}
        work: dict[str, dict[str, tuple[Problem, Sample]]] = {}
        for instance, key in zip(requests, keys, strict=True):
            problem = problem_of(instance.doc)
            if problem is not None and key in samples:
                work.setdefault(_task(instance), {})[key] = (problem, samples[key])
        found = {}
        for task, pairs in work.items():
            verdicts = list(self._verify(pairs.values()))
            self._ledger.add_verdicts(verdicts)
            found.update({(task, verdict.sample_key): verdict for verdict in verdicts})
        return found

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        raise ConfigError(
            "task: asks for log-likelihoods (output_type loglikelihood or multiple_choice); engines sample text. "
            "Use a task with output_type generate_until."
        )

    def loglikelihood_rolling(self, requests: list[Instance]) -> NoReturn:
        self.loglikelihood(requests)


class RecordedLM(LM):
    """Answers with samples that were drawn and scored before: lm-eval's figures for them, without an engine."""

    def __init__(self, seen: Mapping[tuple[str, str], Sequence[Observation | None]]) -> None:
        """`seen` holds an item's samples by (task, problem id), in index order; None where the engine gave none."""
        super().__init__()
        self._seen = seen

    @property
    def tokenizer_name(self) -> str:
        return "recorded"

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_history[-1]["content"]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The recorded completion of every request, in order."""
        at: Counter[tuple[str, str]] = Counter()
        found: list[str] = []
        for instance in requests:
            problem = problem_of(instance.doc)
            assert problem is not None, "only tasks made of problems are recorded"
            place = (_task(instance), problem.id)
            found.append(Completion.scored(self._seen[place][at[place]]))
            at[place] += 1
        return found

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        raise ConfigError("task: asks for log-likelihoods; recorded samples are texts.")

    def loglikelihood_rolling(self, requests: list[Instance]) -> NoReturn:
        self.loglikelihood(requests)


def _task(instance: Instance) -> str:
    return instance.task_name or ""
