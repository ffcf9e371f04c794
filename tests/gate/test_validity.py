"""What is known to be wrong before a token is paid for, from real files.

pytest tests/gate/test_validity.py
"""

import json
from datetime import date

import pytest
import yaml

from distill import catalog
from distill.cards import load_baseline
from distill.errors import GateError
from distill.evaluate.tasks import read_task
from distill.gate.spec import Gate, load_gate
from distill.gate.validity import before_sampling, items_hash

TODAY = date(2026, 11, 24)
TASK = r"""
task: aime24
class: !function distill.evaluate.problem_task.ProblemTask
metadata:
  version: 1.0
  problems:
    - jsonl:
        {path: rows.jsonl, prompt: problem, answer: answer, id: id, domain: math, licence: none, verifier: math}
"""


def gate(**validity):
    wants = {"against": "baseline", "baseline": "o1-mini"}
    return Gate(kind="gate", name="g", description="d", tasks=["aime24"], comparisons=[wants], validity=validity)


def rows_of(answers):
    return [{"id": f"a{at}", "problem": f"Find the {at}th prime above {at * 9}.", "answer": gold}
            for at, gold in enumerate(answers)]  # fmt: skip


@pytest.fixture
def problems(tmp_path):
    """Items of a real task file over a real problem file."""

    def of(rows, instruction=None):
        text = (
            TASK
            if instruction is None
            else TASK.replace("verifier: math", f"verifier: math, instruction: {instruction}")
        )
        (tmp_path / "aime24.yaml").write_text(text)
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_task("aime24", [tmp_path]).problems()

    return of


def before(gate, items, *, baselines=None, training=None):
    return before_sampling(gate, {"aime24": items}, baselines=baselines or {}, training=training, today=TODAY)


GOOD = rows_of(["025", "73", "204"])


def test_nothing_is_wrong(problems):
    assert before(gate(), problems(GOOD), baselines={"o1-mini": load_baseline("o1-mini")}) == []


def test_an_expired_baseline(problems, tmp_path):
    """A baseline file of the catalogue with a date in it."""
    data = yaml.safe_load(catalog.find("baselines", "o1-mini").read_text())
    expired = tmp_path / "o1-mini.yaml"
    expired.write_text(yaml.safe_dump({**data, "expires": date(2026, 11, 23)}))
    (found,) = before(gate(), problems(GOOD), baselines={"o1-mini": load_baseline(expired)})
    assert found == "baseline o1-mini: expired on 2026-11-23; look its numbers up again and set a new date."
    expired.write_text(yaml.safe_dump({**data, "expires": TODAY}))
    assert before(gate(), problems(GOOD), baselines={"o1-mini": load_baseline(expired)}) == []


def test_pinned_items(problems):
    """Another order is the same task; another gold, instruction or padding is not."""
    pinned = gate(items_hash={"aime24": items_hash(problems(GOOD))})
    assert before(pinned, problems(GOOD)) == before(pinned, problems(GOOD[::-1])) == []
    (found,) = before(pinned, problems(rows_of(["26", "73", "204"])))
    assert found.startswith("aime24: the items have hash ") and "Use the pinned dataset revision" in found
    assert "zero-padded" not in found
    assert before(pinned, problems(GOOD, instruction="Think."))[0].startswith("aime24: the items have hash")
    (found,) = before(pinned, problems(rows_of(["025", "073", "204"])))
    assert "2 gold answers are zero-padded, e.g. '025' of item a0: copies of a dataset differ in that" in found
    with pytest.raises(GateError, match="'aime25' is no task of this gate; did you mean 'aime24'"):
        before(gate(items_hash={"aime25": "0"}), problems(GOOD))


def test_too_few_items(problems):
    (found,) = before(gate(min_items=30), problems(GOOD))
    assert found == "aime24: 3 items in the task, at least 30 are needed; give the whole data set."


def test_an_item_in_the_training_set(problems, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("What is a prime?", GOOD[1]["problem"])))
    (found,) = before(gate(), problems(GOOD), training=path)
    assert "contamination: 1 of 3 items (33.3%) stand in the training data" in found and "(2 prompts)" in found
    assert "at most 1.0% is allowed: a1; training prompt row 2 is item a1." in found and "distill curate" in found
    assert before(gate(max_contaminated_rate=0.4), problems(GOOD), training=path) == []
    assert before(gate(max_contaminated_rate=None), problems(GOOD), training=path) == []


def test_all_reasons_are_given(problems):
    rows = [*rows_of(["1000", "nan", "3"]), {"id": "twice", "problem": "Find the 2th prime, above 18", "answer": "3"}]
    found = before(gate(min_items=30, items_hash={"aime24": "0"}), problems(rows))
    kinds = ("at least 30", "no whole number from 0", "placeholders", "duplicates: 1", "the items have hash")
    assert [kind in reason for kind, reason in zip(kinds, found, strict=True)] == [True] * 5


def test_the_quickstart_task_is_sound():
    assert before_sampling(
        load_gate("quickstart"), {"tiny": read_task("tiny").problems()}, baselines={}, training=None, today=TODAY
    ) == []  # fmt: skip
