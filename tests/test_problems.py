"""Problem sources and disjointness (`distill/problems.py`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.errors import ProblemError
from distill.problems import from_json_clean, load_problems, normalise, question, remove_overlap, to_json_clean
from distill.records import Problem

ROWS = [
    {"uid": "a", "problem": "What is 1 + 1?", "gold": "2"},
    {"uid": "b", "problem": "What is 2 + 2?", "gold": 4},
    {"uid": "c", "problem": "what is  1 + 1?\n", "gold": "2"},
]
FIELDS = {"domain": "math", "licence": "MIT", "verifier": "math"}


def gym(family: str = "gcd", **fields: Any) -> dict[str, Any]:
    return {"gym": {"family": family, "size": 20, "seed": 1, **fields}}


def jsonl(file: Path, **fields: Any) -> dict[str, Any]:
    return {"jsonl": {"path": str(file), "prompt": "problem", "answer": "gold", **FIELDS, **fields}}


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return path


# --- reasoning-gym ---------------------------------------------------------------------------------------------------


def test_gym_problems_are_json_clean_and_carry_what_the_scorer_needs() -> None:
    problem = load_problems([gym(config={"min_value": 10, "max_value": 99})])[0]
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem
    assert (problem.verifier, problem.family, problem.source) == ("gym", "gcd", "reasoning-gym:gcd:seed=1")
    assert problem.meta["config"] == {"min_value": 10, "max_value": 99}
    assert problem.meta["entry"]["answer"] == problem.answer


def test_gym_problems_are_the_same_in_another_process() -> None:
    code = (
        "from distill.problems import load_problems\n"
        "for f in ('gcd', 'leg_counting', 'spell_backward'):\n"
        "    print([p.id for p in load_problems([{'gym': {'family': f, 'size': 5, 'seed': 3}}])])"
    )
    root = str(Path(__file__).parent.parent)

    def ids(hash_seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout

    assert ids("1") == ids("2") != ""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (gym("gdc"), "did you mean 'gcd'"),
        (gym(config={"min_valeu": 1}), "did you mean 'min_value'"),
        (gym(config={"min_value": 9, "max_value": 1}), "reasoning-gym refused"),
        (gym(size=0), "size: expected a whole number of at least 1, found 0"),
        (gym(seed="1"), "seed: expected a whole number of at least 0, found '1'"),
        (gym(sise=3), "did you mean 'size'"),
        ({"gym": {"family": "gcd"}}, "missing size, seed"),
        ({"gyn": {}}, "did you mean 'gym'"),
        ({"gym": {}, "jsonl": {}}, "expected exactly one of gym, jsonl, dataset"),
        ("gcd", "expected exactly one of"),
        (gym("game_of_life_halting"), "full credit to any text"),
    ],
)
def test_a_wrong_source_says_what_is_wrong(source: Any, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        load_problems([source])


def test_no_sources_is_an_error() -> None:
    with pytest.raises(ProblemError, match="the list of sources is empty"):
        load_problems([])


def test_duplicates_are_left_out_or_kept_under_ids_of_their_own() -> None:
    small = gym(size=30, config={"min_value": 10, "max_value": 12})
    distinct, every = load_problems([small]), load_problems([small], deduplicate=False)
    assert len(distinct) < len(every) == 30
    assert len({normalise(p.prompt) for p in distinct}) == len(distinct)
    assert len({p.id for p in every}) == 30


def test_json_clean_round_trip_keeps_tuples_sets_and_keys() -> None:
    value = {"a": (1, (2, [3])), "b": {1: "x", (1, 2): {4, 5}}, "c": None, "d": 1.5, "e": True}
    assert from_json_clean(json.loads(json.dumps(to_json_clean(value)))) == value


def test_json_clean_of_numpy_and_dates() -> None:
    import datetime

    import numpy

    assert to_json_clean({"n": numpy.int64(3), "a": numpy.arange(2)}) == {"n": 3, "a": [0, 1]}
    assert to_json_clean(datetime.date(2026, 1, 2)) == "2026-01-02"


# --- rows ------------------------------------------------------------------------------------------------------------


def test_jsonl(rows_file: Path) -> None:
    problems = load_problems([jsonl(rows_file)])
    assert [(p.prompt, p.answer) for p in problems] == [("What is 1 + 1?", "2"), ("What is 2 + 2?", "4")]
    assert {(p.family, p.source, p.domain, p.licence, p.verifier) for p in problems} == {
        ("rows", "rows", "math", "MIT", "math")
    }
    assert problems == load_problems([jsonl(Path("rows.jsonl"))], base_dir=rows_file.parent)


def test_jsonl_ids_and_limit(rows_file: Path) -> None:
    assert [p.id for p in load_problems([jsonl(rows_file, id="uid", family="sums", limit=1)])] == ["a"]


def test_instruction_is_in_the_prompt_and_not_in_the_question(rows_file: Path) -> None:
    with_instruction = load_problems([jsonl(rows_file, instruction=r"Answer in \boxed{}.")])
    bare = load_problems([jsonl(rows_file)])
    assert with_instruction[0].prompt == "What is 1 + 1?\n\nAnswer in \\boxed{}."
    assert question(with_instruction[0]) == "What is 1 + 1?"
    assert remove_overlap(with_instruction, bare) == ([], with_instruction)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "problm"}, r"row 0: column: unknown 'problm'; did you mean 'problem'"),
        ({"verifier": "gym"}, "verifier: unknown 'gym'; known: math, exact, code, choice, majority"),
        ({"promt": "x"}, "did you mean 'prompt'"),
        ({"licence": None}, "missing licence"),
        ({"limit": 0}, "limit: expected a whole number of at least 1"),
        ({"path": "absent.jsonl"}, "cannot read"),
    ],
)
def test_wrong_jsonl_source(fields: dict[str, Any], message: str, rows_file: Path) -> None:
    with pytest.raises(ProblemError, match=message):
        load_problems([jsonl(rows_file, **fields)], base_dir=rows_file.parent)


def test_problems_without_gold_are_decided_by_majority(rows_file: Path) -> None:
    problem = load_problems([jsonl(rows_file, verifier="majority", answer=None)])[0]
    assert (problem.verifier, problem.answer, problem.meta) == ("majority", None, {"equivalence": "math"})
    with pytest.raises(ProblemError, match="verifier majority has no gold answer; leave it out"):
        load_problems([jsonl(rows_file, verifier="majority")])


def test_answer_after_a_marker(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"problem": "q", "gold": "2 + 3 = 5\n#### 5 "}))
    assert [p.answer for p in load_problems([jsonl(path, answer_after="####")])] == ["5"]
    with pytest.raises(ProblemError, match="nothing follows answer_after '@@'"):
        load_problems([jsonl(path, answer_after="@@")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no problems in it"),
        ('{"problem": "a", "gold": "b"}\n{"problem": ', r"rows.jsonl:2: not JSON"),
        ("[1]", "found list; expected one JSON object a line"),
        ('{"problem": "", "gold": "b"}', "column 'problem': expected text, found ''"),
        ('{"problem": "a", "gold": null}', "column 'gold': expected text or a number, found None"),
    ],
)
def test_wrong_jsonl_file(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(ProblemError, match=message):
        load_problems([jsonl(path)])


def test_one_id_for_two_questions_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"problem": "a", "gold": 1, "uid": 1}\n{"problem": "b", "gold": 1, "uid": 1}\n')
    with pytest.raises(ProblemError, match="'1' names two different questions"):
        load_problems([jsonl(path, id="uid")])


# --- datasets --------------------------------------------------------------------------------------------------------


def dataset(name: str, **fields: Any) -> dict[str, Any]:
    return {"dataset": {"name": name, "columns": {"prompt": "problem", "answer": "gold"}, **FIELDS, **fields}}


@pytest.fixture(autouse=True)
def _offline_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)


def test_dataset_by_packaged_builder(tmp_path: Path) -> None:
    import datasets

    rows = [{"problem": "What is 1 + 1?", "gold": "2"}, {"problem": "What is 2 + 2?", "gold": "4"}]
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "rows.parquet"))
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for name, file in (("parquet", "rows.parquet"), ("json", "rows.jsonl")):
        problems = load_problems([dataset(name, data_files=file, family="sums")], base_dir=tmp_path)
        assert [(p.prompt, p.answer, p.family) for p in problems] == [(r["problem"], r["gold"], "sums") for r in rows]
        named = dataset(name, data_files={"test": [file]}, split="test")
        assert [p.answer for p in load_problems([named], base_dir=tmp_path)] == ["2", "4"]


def test_dataset_saved_to_disk(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list([{"problem": "What is 1 + 1?", "gold": "2"}])
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": rows}).save_to_disk(str(tmp_path / "split"))
    assert [p.answer for p in load_problems([dataset("one")], base_dir=tmp_path)] == ["2"]
    assert [p.answer for p in load_problems([dataset("split", split="test")], base_dir=tmp_path)] == ["2"]
    with pytest.raises(ProblemError, match="split: unknown 'tets'; did you mean 'test'"):
        load_problems([dataset("split", split="tets")], base_dir=tmp_path)


def test_dataset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="dataset json: cannot load split 'train'"):
        load_problems([dataset("json", data_files="absent.jsonl")], base_dir=tmp_path)


# --- disjointness ----------------------------------------------------------------------------------------------------


def test_overlap_of_small_spaces_is_found_removed_and_counted() -> None:
    config = {"min_value": 10, "max_value": 12}
    held_out = load_problems([gym(size=4, seed=20260001, config=config)])
    train = load_problems([gym(size=200, seed=1, config=config), gym(size=50, seed=2)])
    kept, removed = remove_overlap(train, held_out)
    asked = {p.prompt for p in held_out}
    assert len(removed) == len(held_out) == len({p.prompt for p in removed})
    assert {p.prompt for p in removed} == asked
    assert not {p.prompt for p in kept} & asked
    assert len(kept) + len(removed) == len(train)


def test_overlap_is_by_normalised_text(rows_file: Path) -> None:
    first, second = load_problems([jsonl(rows_file, id="uid", limit=2)])
    same = Problem("z", "\u00a0WHAT is 1 \uff0b 1?  ", "2", "math", "f", "d", "s", "l")
    assert remove_overlap([first, second], [same]) == ([second], [first])


@pytest.mark.parametrize(
    ("text", "normal"), [(" A\t b\n\nC ", "a b c"), ("\uff11\u00a02", "1 2"), ("Stra\u00dfe", "strasse")]
)
def test_normalise(text: str, normal: str) -> None:
    assert normalise(text) == normal
