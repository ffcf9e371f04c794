"""Whether a completion has degenerated: it goes round in circles, or has left the language of its prompt.

    watch = LoopWatch(words=20, times=20)
    if (note := watch.feed(new_text)) is not None: ...      # "loop: 20 words repeated 20 times"

The same code runs on a stream, stretch by stretch, and on finished text (`loop_in`). Work per character is bounded:
every `STRIDE` characters, the last words are looked for in a window of `WINDOW` characters, by `str.count`.

A loop is the last `words` words (runs of letters and digits, or one CJK character; case and punctuation aside), found
`times` times without overlap in the window; or, for text without words to speak of, one string of at most
1/`times` of 10 * `words` * `times` characters that fills all of these. Figures do not make a loop of words: half of the
words must be text, so that tables and long arithmetic need 4,000 characters of exact repetition. 20 words x 20 after
a-m-team's filter, https://arxiv.org/abs/2505.14464, which counts them anywhere in a finished text, as does
`most_frequent_ngram`.
Not covered: paraphrase in circles; blocks longer than `WINDOW / times` characters; languages that share a script.
"""

from __future__ import annotations

import re
from collections import Counter, deque

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
STRIDE = 1024
WINDOW = 32768
CHARACTERS_PER_WORD = 10
LETTERS = 1000
"""Language is judged over so many letters."""

_UNFINISHED = re.compile(r"[^\W_]{1,64}\Z")
_SCRIPTS = {
    "Cyrillic": "\u0400-\u052f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Indic": "\u0900-\u0dff",
    "Thai": "\u0e00-\u0e7f",
    "Kana": "\u3041-\u30ff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
}
_OF_SCRIPT = {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}
_LETTER = re.compile(r"[^\W\d_]")


def words_of(text: str) -> list[str]:
    """Words, case aside: runs of letters and digits, or one CJK character."""
    return WORD.findall(text.casefold())


def most_frequent_ngram(text: str, ngram_words: int) -> tuple[tuple[str, ...], int]:
    """The n-gram of words that occurs most often, and how often; ((), 0) where the text is shorter than one."""
    words = words_of(text)
    counts = Counter(zip(*(words[offset:] for offset in range(ngram_words)), strict=False))
    return counts.most_common(1)[0] if counts else ((), 0)


def loop_in(text: str, *, words: int = 20, times: int = 20) -> str | None:
    """What `LoopWatch` says of a finished text: the first loop, or None."""
    watch = LoopWatch(words=words, times=times)
    for start in range(0, len(text), STRIDE):
        if (note := watch.feed(text[start : start + STRIDE])) is not None:
            return note
    return watch.check()


class LoopWatch:
    """Sees a text as it grows."""

    def __init__(self, *, words: int = 20, times: int = 20):
        if words < 1 or times < 2:
            raise ValueError(f"words: expected 1 or more and times 2 or more, found {words} and {times}")
        self._words, self._times = words, times
        self._num_characters = CHARACTERS_PER_WORD * words * times
        self._new: list[str] = []
        self._num_new = 0
        self._tail = ""  # the last characters as they are
        self._said = " "  # the last words, a blank after each
        self._unfinished = ""

    def feed(self, text: str) -> str | None:
        """Take the next stretch; what is wrong, or None. Looks once in `STRIDE` characters."""
        self._new.append(text)
        self._num_new += len(text)
        return self.check() if self._num_new >= STRIDE else None

    def check(self) -> str | None:
        """Look now."""
        text = "".join(self._new)
        self._new, self._num_new = [], 0
        self._tail = (self._tail + text)[-self._num_characters :]
        whole = self._unfinished + text
        last = _UNFINISHED.search(whole)  # a word that may go on
        self._unfinished = last[0] if last else ""
        words = words_of(whole[: last.start()] if last else whole)
        if words:
            self._said = (self._said + " ".join(words) + " ")[-WINDOW:]
        return self._loop_of_words() or self._loop_of_characters()

    def _loop_of_words(self) -> str | None:
        last = self._said.rsplit(maxsplit=self._words)[-self._words :]
        if len(last) < self._words or 2 * sum(map(_is_text, last)) < self._words:
            return None
        if self._said.count(" ".join(last) + " ") < self._times:
            return None
        return f"loop: {self._words} words repeated {self._times} times"

    def _loop_of_characters(self) -> str | None:
        tail, longest = self._tail, self._num_characters // self._times
        if len(tail) < self._num_characters:
            return None
        before = tail.rfind(tail[-longest:], 0, len(tail) - 1)
        period = len(tail) - longest - before
        if before < 0 or period > longest or tail[period:] != tail[:-period]:
            return None
        return f"loop: {period} characters repeated {len(tail) // period} times"


def _is_text(word: str) -> bool:
    return not word.isdecimal() and (len(word) > 1 or not word.isascii())


class LanguageWatch:
    """Sees the share of letters in scripts that the prompt has not; Latin and Greek are in every prompt.

    DeepSeek-R1 drops traces with mixed languages (arXiv 2501.12948, section 2.3.3).
    """

    def __init__(self, prompt: str, share: float):
        self._foreign = {name: found for name, found in _OF_SCRIPT.items() if not found.search(prompt)}
        if "Kana" not in self._foreign:
            self._foreign.pop("Han", None)
        self._share = share
        self._stretches: deque[tuple[int, Counter[str]]] = deque()
        self._letters = 0
        self._counts: Counter[str] = Counter()

    def feed(self, text: str) -> str | None:
        """Take the next stretch; what is wrong, or None."""
        letters = len(_LETTER.findall(text))
        counts: Counter[str] = Counter()
        if not text.isascii():
            counts.update({name: len(found.findall(text)) for name, found in self._foreign.items()})
        self._stretches.append((letters, counts))
        self._letters += letters
        self._counts += counts
        while self._letters - self._stretches[0][0] >= LETTERS:
            letters, counts = self._stretches.popleft()
            self._letters -= letters
            self._counts -= counts
        if self._letters < LETTERS or self._counts.total() < self._share * self._letters:
            return None
        script, _ = self._counts.most_common(1)[0]
        share = self._counts.total() / self._letters
        return (
            f"language mixing: {share:.0%} of the last {self._letters} letters are {script}, which the prompt has not"
        )


def foreign_share(prompt: str, text: str) -> float:
    """Share of a finished text's letters in scripts that its prompt has not, counted as `LanguageWatch` counts them."""
    letters = len(_LETTER.findall(text))
    if not letters or text.isascii():
        return 0.0
    foreign = LanguageWatch(prompt, 1.0)._foreign
    return sum(len(found.findall(text)) for found in foreign.values()) / letters


class Watch:
    """Both, as far as they are asked for."""

    def __init__(self, prompt: str, *, loops: tuple[int, int] | None, language_mixing: float | None):
        self._watches: list[LoopWatch | LanguageWatch] = []
        if loops is not None:
            self._watches.append(LoopWatch(words=loops[0], times=loops[1]))
        if language_mixing is not None:
            self._watches.append(LanguageWatch(prompt, language_mixing))

    def feed(self, text: str) -> str | None:
        return next((note for watch in self._watches if (note := watch.feed(text)) is not None), None)
