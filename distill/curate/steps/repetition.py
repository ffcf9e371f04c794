"""Drops completions that go round in circles: one n-gram of words, many times."""

from __future__ import annotations

from distill.curate.step import Decision, Row
from distill.engines.degeneration import most_frequent_ngram


class Repetition:
    """Reason: loop; the detail is the n-gram and how often it occurs.

    A word is a run of letters and digits, or one CJK character. A block of p words repeated back to back is found once
    it spans `ngram_words + (min_occurrences - 1) * p` words.

    Source: defaults of 20 words x 20 occurrences from a-m-team, https://arxiv.org/abs/2505.14464, for traces of
    thousands of tokens. Short traces want less: 8 x 6 finds loops in those of the embedded teacher (a few hundred
    tokens) and drops none of its worked solutions (tests/curate/test_repetition.py).
    """

    name = "repetition"

    def __init__(self, *, ngram_words: int = 20, min_occurrences: int = 20) -> None:
        if ngram_words < 1 or min_occurrences < 2:
            raise ValueError(
                "ngram_words: expected 1 or more and min_occurrences 2 or more, "
                f"found {ngram_words} and {min_occurrences}"
            )
        self.ngram_words = ngram_words
        self.min_occurrences = min_occurrences

    def filter(self, row: Row) -> Decision:
        ngram, occurrences = most_frequent_ngram(row["completion"], self.ngram_words)
        if occurrences < self.min_occurrences:
            return True
        return False, "loop", f"{occurrences} times {' '.join(ngram)!r}"
