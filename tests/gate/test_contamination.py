"""Training data that holds items of the task: real Parquet as curation writes it, and JSONL.

pytest tests/gate/test_contamination.py
"""

import json
from dataclasses import replace

import pytest

from distill.errors import TraceError
from distill.gate.contamination import contamination, training_prompts
from distill.problems import load_problems
from distill.records import Problem
from distill.store.parquet import TRACE_COLUMNS, write_dataset

NAMES = ["Aya", "Ben", "Chen", "Dora", "Emil", "Fay", "Gil", "Hana", "Ivo", "Jin"]
THINGS = ["red marbles", "old stamps", "paper boats", "glass beads", "tin cars", "wool hats", "blue kites", "salt jars"]


def item(at, prompt=None):
    thing, other = THINGS[at % 8], THINGS[(3 * at + 1) % 8]
    text = prompt or (
        f"{NAMES[at % 10]} keeps {at + 7} {thing} in {at % 5 + 2} boxes beside the {other}, gives half of one away on "
        f"day {at + 3}, then finds {2 * at + 1} more behind the {THINGS[(at + 5) % 8]}. How many are there now?"
    )
    return Problem(f"q{at}", text, "5", "math", "words", "math", "test", "none")


ITEMS = [item(at) for at in range(40)]


def dataset(tmp_path, prompts, dropped=()):
    rows = [{**dict.fromkeys(TRACE_COLUMNS), "problem_id": f"t{at}", "family": "train", "prompt": prompt}
            for at, prompt in enumerate(prompts)]  # fmt: skip
    drops = [{**dict.fromkeys(TRACE_COLUMNS), "problem_id": "d", "prompt": prompt, "dropped_by": "decontaminate",
              "reason": "contaminated", "detail": ""} for prompt in dropped]  # fmt: skip
    write_dataset(tmp_path / "dataset", rows, drops, "# a dataset\n", rows_per_shard=16)
    return tmp_path / "dataset"


CLEAN = [
    f"A farmer sows {at} rows of {THINGS[at % 8]} and sells {at // 2}. What is left of row {at}?" for at in range(60)
]


def test_a_clean_dataset(tmp_path):
    found = contamination({"words": ITEMS}, dataset(tmp_path, CLEAN, dropped=[ITEMS[0].prompt]))
    assert found["words"].item_ids == [] and found["words"].rate == 0.0 and found["words"].n_prompts == 60


def test_one_row_that_is_an_item(tmp_path):
    """Many traces of it are one prompt; a dropped copy was not trained on."""
    copies = [*CLEAN, ITEMS[7].prompt, ITEMS[7].prompt]
    found = contamination({"words": ITEMS}, dataset(tmp_path, copies, dropped=[ITEMS[8].prompt]))["words"]
    assert (found.item_ids, found.rate, found.n_prompts) == (["q7"], 1 / 40, 61)
    assert found.example == "training prompt t60 is item q7"
    assert contamination({"words": ITEMS}, tmp_path)["words"].item_ids == ["q7"], "the run directory will do"


def test_a_copy_within_a_longer_prompt_in_another_typesetting(tmp_path):
    hidden = f"Solve this. {ITEMS[3].prompt.replace(' 10 ', ' $10$ ').upper()} Show your work."
    found = contamination({"words": ITEMS}, dataset(tmp_path, [*CLEAN, hidden]))["words"]
    assert (
        found.item_ids == ["q3"]
        and "training prompt t60 shares" in found.example
        and "words problem q3" in found.example
    )


def test_the_instruction_is_no_part_of_the_question(tmp_path):
    told = [replace(each, prompt=f"{each.prompt}\n\nThink.", meta={"question": each.prompt}) for each in ITEMS]
    for prompt in (ITEMS[5].prompt, told[5].prompt):
        found = contamination({"words": told}, dataset(tmp_path, [*CLEAN, prompt]))["words"]
        assert (found.item_ids, found.example) == (["q5"], "training prompt t60 is item q5")


def test_each_task_is_told_apart(tmp_path):
    tasks = {"words": ITEMS, "sums": [item(at, f"Add {at} to the sum of the digits of {at * 37}.") for at in range(20)]}
    found = contamination(tasks, dataset(tmp_path, [*CLEAN, tasks["sums"][4].prompt, ITEMS[9].prompt]))
    assert (found["words"].item_ids, found["sums"].item_ids) == (["q9"], ["q4"])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ITEMS[2].prompt},
        {"id": "x", "problem": ITEMS[2].prompt, "solution": "5"},
        {"messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": ITEMS[2].prompt}]},
        {"conversations": [{"from": "human", "value": ITEMS[2].prompt}]},
    ],
)
def test_jsonl_in_the_usual_shapes(tmp_path, row):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in [*({"prompt": text} for text in CLEAN), row]))
    assert contamination({"words": ITEMS}, path)["words"].item_ids == ["q2"]


def test_puzzles_of_other_seeds_are_no_copies(tmp_path):
    """What the quickstart trains on: the same families, drawn with another seed."""
    sizes = [
        {"gym": {"family": family, "size": 60, "seed": seed}} for family in ("gcd", "leg_counting") for seed in (1, 2)
    ]
    first, second = load_problems(sizes[::2]), load_problems(sizes[1::2])
    taken = {problem.prompt for problem in first}
    prompts = [problem.prompt for problem in second if problem.prompt not in taken]
    assert contamination({"tiny": first}, dataset(tmp_path, prompts))["tiny"].item_ids == []


def test_data_that_cannot_be_read(tmp_path):
    with pytest.raises(TraceError, match=r"no train-.*parquet"):
        training_prompts(tmp_path)
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(TraceError, match=r"t\.jsonl:1: no prompt found; expected an object with one of prompt"):
        training_prompts(path)
    path.write_text("{\n")
    with pytest.raises(TraceError, match="not JSON"):
        training_prompts(path)
    path.write_text("\n")
    with pytest.raises(TraceError, match="no rows in it"):
        training_prompts(path)
