"""Drops rows whose prompt copies a problem of the evaluation, by word n-grams; the detail shows the words they share.

Words that many problems share are template, not evidence: "Give only the result as your final answer." must not flag a
whole family. So a word counts as *specific* only if no run of `template_words` words around it is common, and an n-gram
is evidence only if it holds `min_specific_words` of them (all, where a problem has fewer). Problems without such an
n-gram (shorter than n words, or with their own words far apart) are matched whole.

Not covered: paraphrase, translation, and copies in completions. Both texts are compared as `distill/curate/words.py`
writes them. Measured recall and false drops: tests/curate/test_decontaminate.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from distill.curate.step import CurationContext, Decision, Row
from distill.curate.words import is_mathematical, words
from distill.records import Problem

Words = tuple[str, ...]
_EDGE = ""  # stands before and after a prompt, so that a short lead common to a family is template too


class Decontaminate:
    """Reason: contaminated; the detail names the evaluation problem and quotes the shared words.

    Source: 13-grams, GPT-3, https://arxiv.org/abs/2005.14165, appendix C; `min_specific_words` of 8 is the n of the
    8-gram check of s1 and open-r1 (https://github.com/huggingface/open-r1, scripts/decontaminate.py). The rest is ours:
    a run of words is template where more than `max_prompts_sharing` distinct evaluation prompts have it, or that many
    and `max_training_fraction` of the training prompts, or `max_family_fraction` of one family's. Only the last holds
    for runs with numbers or at an edge: "problem: 5 + 1" comes up by chance, "1 bits are there in" in a whole family.
    """

    name = "decontaminate"

    def __init__(
        self,
        *,
        ngram_words: int = 13,
        min_specific_words: int = 8,
        template_words: int = 5,
        max_prompts_sharing: int = 3,
        max_training_fraction: float = 0.001,
        max_family_fraction: float = 0.1,
        context: CurationContext,
    ) -> None:
        for name, value in (("ngram_words", ngram_words), ("min_specific_words", min_specific_words)):
            if value < 1:
                raise ValueError(f"{name}: expected 1 or more, found {value}")
        if template_words < 2:
            raise ValueError(f"template_words: expected 2 or more, found {template_words}")
        if not context.evaluation_problems:
            raise ValueError("context: expected the evaluation's problems, found none; name tasks in the recipe")
        documents = _documents(context.evaluation_problems)
        limits = _Limits(template_words, max_prompts_sharing, max_training_fraction, max_family_fraction)
        template = _template_runs(documents, _documents(context.training_problems), limits)
        self._index = _Index(ngram_words)
        for prompt_words, problem in documents.items():
            specific = _specific(prompt_words, template, template_words)
            self._index.add(prompt_words, problem, specific, min_specific_words)
        self._details: dict[str, str | None] = {}

    def match(self, prompt: str) -> Match | None:
        """The evaluation problem that a prompt copies, and the words they share; None if it copies none."""
        return self._index.match(words(prompt))

    def filter(self, row: Row) -> Decision:
        prompt = row["prompt"]
        if prompt not in self._details:  # many samples share a prompt
            found = self.match(prompt)
            self._details[prompt] = None if found is None else str(found)
        detail = self._details[prompt]
        return True if detail is None else (False, "contaminated", detail)


@dataclass(frozen=True, slots=True)
class Match:
    """Evidence that a prompt is a copy."""

    problem: Problem
    shared: Words
    prompt_words: int
    """Words of the evaluation problem's whole prompt."""

    def __str__(self) -> str:
        source, text = f"{self.problem.source} problem {self.problem.id}", " ".join(self.shared)
        return f"shares {len(self.shared)} of {self.prompt_words} words with {source}: '{text}'"


@dataclass(frozen=True, slots=True)
class _Limits:
    """When a run of words is template."""

    template_words: int
    max_prompts_sharing: int
    max_training_fraction: float
    max_family_fraction: float


@dataclass(slots=True)
class _Index:
    """What flags a prompt: n-grams with enough specific words, and whole short prompts."""

    ngram_words: int
    by_ngram: dict[Words, tuple[Words, int, Problem]] = field(default_factory=dict)
    whole: dict[int, dict[Words, Problem]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, prompt: Words, problem: Problem, specific: Sequence[bool], min_specific_words: int) -> None:
        needed = min(min_specific_words, sum(specific))
        has_evidence = False
        for start, ngram in _ngrams(prompt, self.ngram_words):
            if needed and sum(specific[start : start + self.ngram_words]) >= needed:
                self.by_ngram.setdefault(ngram, (prompt, start, problem))
                has_evidence = True
        if not has_evidence:
            self.whole[len(prompt)][prompt] = problem

    def match(self, candidate: Sequence[str]) -> Match | None:
        """The evidence that a prompt is a copy, or None."""
        for start, ngram in _ngrams(candidate, self.ngram_words):
            if found := self.by_ngram.get(ngram):
                prompt, prompt_start, problem = found
                shared = _extend(candidate, start, prompt, prompt_start, self.ngram_words)
                return Match(problem, shared, len(prompt))
        for length, prompts in self.whole.items():
            for start, ngram in _ngrams(candidate, length):
                if ngram in prompts and not _goes_on(candidate, start, length):
                    return Match(prompts[ngram], ngram, length)
        return None


def _documents(problems: Iterable[Problem]) -> dict[Words, Problem]:
    """Distinct prompts by their words; the first problem of each stands for all."""
    documents: dict[Words, Problem] = {}
    for problem in problems:
        if key := tuple(words(problem.prompt)):
            documents.setdefault(key, problem)
    return documents


def _template_runs(
    evaluation: Mapping[Words, Problem], training: Mapping[Words, Problem], limits: _Limits
) -> set[Words]:
    """Runs of words of the evaluation's prompts that too many distinct prompts share."""
    template: set[Words] = set()
    known: set[Words] | None = None
    for documents, fraction in ((evaluation, 0.0), (training, limits.max_training_fraction)):
        in_all: Counter[Words] = Counter()
        in_family: Counter[tuple[str, Words]] = Counter()
        family_sizes = Counter(problem.family for problem in documents.values())
        for prompt, problem in documents.items():
            runs = {run for _, run in _ngrams(_edged(prompt, limits.template_words), limits.template_words)}
            runs = runs if known is None else runs & known
            in_all.update(runs)
            in_family.update((problem.family, run) for run in runs)
        template |= {
            run
            for run, count in in_all.items()
            if not _may_recur_by_chance(run) and count > max(limits.max_prompts_sharing, fraction * len(documents))
        }
        template |= {
            run
            for (family, run), count in in_family.items()
            if count > max(limits.max_prompts_sharing, limits.max_family_fraction * family_sizes[family])
        }
        known = set(in_all) if known is None else known
    return template


def _may_recur_by_chance(run: Words) -> bool:
    """True of runs with numbers, and of the few words at an edge ("and 3 cats." ends many a problem)."""
    return any(word == _EDGE or is_mathematical(word) for word in run)


def _specific(prompt: Words, template: set[Words], template_words: int) -> list[bool]:
    """For each word of the prompt, True unless a template run covers it."""
    pad = template_words - 1
    is_specific = [True] * (len(prompt) + 2 * pad)
    for start, run in _ngrams(_edged(prompt, template_words), template_words):
        if run in template:
            is_specific[start : start + template_words] = [False] * template_words
    return is_specific[pad : pad + len(prompt)]


def _edged(prompt: Sequence[str], template_words: int) -> list[str]:
    edge = [_EDGE] * (template_words - 1)
    return [*edge, *prompt, *edge]


def _ngrams(sequence: Sequence[str], length: int) -> Iterator[tuple[int, Words]]:
    for start in range(len(sequence) - length + 1):
        yield start, tuple(sequence[start : start + length])


def _extend(candidate: Sequence[str], start: int, prompt: Words, prompt_start: int, length: int) -> Words:
    """The longest common run around a shared n-gram."""
    end, prompt_end = start + length, prompt_start + length
    while start > 0 and prompt_start > 0 and candidate[start - 1] == prompt[prompt_start - 1]:
        start, prompt_start = start - 1, prompt_start - 1
    while end < len(candidate) and prompt_end < len(prompt) and candidate[end] == prompt[prompt_end]:
        end, prompt_end = end + 1, prompt_end + 1
    return tuple(candidate[start:end])


def _goes_on(candidate: Sequence[str], start: int, length: int) -> bool:
    """True if a number or an operator touches the match: '6 + 5' is not a copy in '6 + 5 + 7'."""
    neighbours = [*candidate[max(0, start - 1) : start], *candidate[start + length : start + length + 1]]
    return any(is_mathematical(word) for word in neighbours)
