"""Loops and other languages are seen while a text grows; long mathematics is left alone."""

from __future__ import annotations

import importlib
import time
from fractions import Fraction

import pytest

from distill.embedded.families import FAMILIES, entries
from distill.engines.degeneration import LanguageWatch, LoopWatch, Watch, foreign_share, loop_in, most_frequent_ngram

SENTENCE = "Hmm, so the sum of the first five terms must be even, and that does not fit what the problem says at all. "


def long_division(digits: int) -> str:
    """Two thousand steps of 1/7919 by hand, each worded alike."""
    lines, rest = [], 1
    for step in range(digits):
        figure, left = divmod(rest * 10, 7919)
        lines.append(
            f"Step {step}: bring down a zero, so we have {rest * 10}; 7919 goes into it {figure} times, and "
            f"{rest * 10} - {figure} * 7919 = {left}, which is the new remainder."
        )
        rest = left
    return "\n".join(lines)


def table(rows: int) -> str:
    """A table of squares with columns that never change."""
    return "\n".join(f"| n = {n} | yes | no | even | odd | {n * n} | 0 | 0 | 0 |" for n in range(rows))


MATHEMATICS = {
    "long division": long_division(2000),
    "a table": table(600),
    "rows that are all the same": "| 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |\n" * 60,
    "a matrix of zeros and ones": "\n".join(" ".join("1" if i == j else "0" for j in range(30)) for i in range(30)),
    "a long number": str(3**8900),
    "a short repeating decimal": f"1/7 = 0.{'142857' * 100}...",
    "cases": " ".join(
        f"Case n = {n}: then n squared plus n plus one is {n * n + n + 1}, and this leaves remainder "
        f"{(n * n + n + 1) % 9} when it is divided by nine, so this case is not possible." for n in range(800)
    ),
    "a harmonic sum": " + ".join(f"1/{n}" for n in range(1, 1500)) + f" = {sum(Fraction(1, n) for n in range(1, 300))}",
    "a sentence said nineteen times": SENTENCE * 19 + "So the answer is 7.",
    "chinese mathematics": "".join(
        f"\u5f53n={n}\u65f6\uff0c\u5e73\u65b9\u7b49\u4e8e{n * n}\uff0c"
        f"\u9664\u4ee5\u4e5d\u7684\u4f59\u6570\u662f{n * n % 9}\u3002"
        for n in range(900)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MATHEMATICS)
def test_long_mathematics_is_no_loop(name):
    assert loop_in(MATHEMATICS[name]) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_no_worked_solution_of_the_embedded_teacher_is_a_loop(family):
    write = importlib.import_module(f"distill.embedded.steps.{family}").write
    for entry in entries(family, 100, 3):
        reasoning, answer = write(entry["metadata"])
        assert loop_in(f"<think>\n{reasoning}\n</think>\n\n{answer}", words=8, times=6) is None


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (SENTENCE * 30, "loop: 20 words repeated 20 times"),
        (table(300) + "\n" + SENTENCE * 30, "loop: 20 words repeated 20 times"),
        ((SENTENCE + long_division(3)) * 40, "loop: 20 words repeated 20 times"),  # a block of a hundred words
        ("Wait, let me check. " * 200, "loop: 20 words repeated 20 times"),
        ("\u7b49\u7b49\uff0c\u518d\u7b97\u4e00\u904d\u3002" * 200, "loop: 20 words repeated 20 times"),
        ("\ub2e4\uc2dc \ud655\uc778\ud574 \ubcf4\uc790. " * 200, "loop: 20 words repeated 20 times"),
        ("ha" * 3000, "loop: 2 characters repeated 2000 times"),
        ("\n" * 6000, "loop: 1 characters repeated 4000 times"),
        ("0, " * 2000, "loop: 3 characters repeated 1333 times"),
        ("3.142857" + "142857" * 800, "loop: 6 characters repeated 666 times"),
    ],
)
def test_loops(text, note):
    assert loop_in(text) == note


@pytest.mark.parametrize("size", [1, 3, 64, 10**6])
def test_it_does_not_matter_how_a_text_is_cut(size):
    text = MATHEMATICS["a table"][:5000] + SENTENCE * 40
    watch = LoopWatch()
    notes = [note for at in range(0, len(text), size) if (note := watch.feed(text[at : at + size]))]
    assert notes[0] == "loop: 20 words repeated 20 times"


def test_a_loop_is_seen_soon():
    """Four hundred words make a loop; it is seen within a stride of them."""
    watch, fed = LoopWatch(), 0
    for word in (SENTENCE * 100).split():
        fed += 1
        if watch.feed(word + " "):
            break
    assert 400 <= fed < 400 + 20 * 2 + 1024 // 4


def test_other_settings():
    assert loop_in("so let me check that once more " * 10) is None
    assert loop_in("so let me check that once more " * 11, words=8, times=6) is None
    assert loop_in("so let me check that once more " * 13, words=8, times=6) == "loop: 8 words repeated 6 times"
    with pytest.raises(ValueError, match="times 2 or more, found 20 and 1"):
        LoopWatch(times=1)


def test_a_language_that_the_prompt_has_not():
    english, chinese = "we add both sides of the equation ", "\u6211\u4eec\u628a\u4e24\u8fb9\u76f8\u52a0"

    def note(prompt: str, text: str, share: float = 0.2) -> str | None:
        watch = LanguageWatch(prompt, share)
        return next((said for at in range(0, len(text), 256) if (said := watch.feed(text[at : at + 256]))), None)

    mixed = english * 100 + chinese * 60
    assert "letters are Han, which the prompt has not" in str(note("Solve x + 1 = 2.", mixed))
    assert note("\u89e3\u65b9\u7a0b x + 1 = 2", mixed) is None
    assert note("Solve x + 1 = 2.", english * 300 + "\u03b1 + \u03b2 = \u03c0 " * 300) is None  # Greek is mathematics
    assert note("Solve x + 1 = 2.", english * 100 + chinese[:4] + english * 100) is None  # a word in passing
    assert note("\u65b9\u7a0b\u5f0f\u3092\u89e3\u3051", chinese * 300) is None  # Japanese is written in Han too
    assert foreign_share("Solve it.", chinese) == 1.0
    assert foreign_share("Solve it.", english) == 0.0


def test_both_or_none():
    assert Watch("x", loops=None, language_mixing=None).feed(SENTENCE * 100) is None
    assert Watch("x", loops=(20, 20), language_mixing=0.5).feed(SENTENCE * 100) == "loop: 20 words repeated 20 times"


def test_time_per_token_does_not_grow():
    """The second hundred thousand characters cost what the first cost; six times as much would be a growing cost."""
    text = MATHEMATICS["long division"] + MATHEMATICS["cases"]
    tokens = [text[at : at + 4] for at in range(0, 240_000, 4)]
    watch, seconds = LoopWatch(), []
    for part in range(4):
        started = time.process_time()
        for token in tokens[part * 15_000 : (part + 1) * 15_000]:
            watch.feed(token)
        seconds.append(time.process_time() - started)
    print(f"{sum(seconds) / len(tokens) * 1e6:.2f} us a token")
    assert seconds[3] < 3 * seconds[1] + 0.05


def test_short_texts_have_no_ngram():
    assert most_frequent_ngram("two words", 3) == ((), 0)
    assert most_frequent_ngram("", 1) == ((), 0)
