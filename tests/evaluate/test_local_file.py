"""pytest tests/evaluate/test_local_file.py"""

import json

import pytest

from distill.errors import ConfigError, InfrastructureError, ProblemError
from distill.evaluate.local_file import columns_in
from distill.evaluate.tasks import held_out_problems

HUB = {
    "gsm8k": {"question": "1 + 2?", "answer": "1 + 2 = 3\n#### 3"},
    "aime24": {"id": 60, "problem": "1 + 2?", "solution": "add", "answer": "003"},
    "aime25": {"id": "0", "problem": "1 + 2?", "answer": "3"},
    "math500": {"problem": "1 + 2?", "solution": r"\boxed{3}", "answer": "3", "unique_id": "a/1.json"},
    "gpqa_diamond": {
        "Record ID": "rec1",
        "Question": "1 + 2?",
        "Correct Answer": "3",
        "Incorrect Answer 1": "1",
        "Incorrect Answer 2": "2",
        "Incorrect Answer 3": "4",
    },
    "humaneval": {
        "task_id": "own/0",
        "prompt": 'def three() -> int:\n    """1 + 2?"""\n',
        "canonical_solution": "    return 3\n",
        "test": "def check(candidate):\n    assert candidate() == 3\n",
        "entry_point": "three",
    },
}
COMMON = [
    ("gsm8k", {"id": "own/1", "problem": "1 + 2?", "solution": "add", "answer": "3"}),
    ("aime24", {"question": "1 + 2?", "answer": 3}),
    ("math500", {"prompt": "1 + 2?", "answer": "3"}),
    ("gpqa_diamond", {"question": "1 + 2?", "choices": ["1", "3"], "answer": "B"}),
    ("gpqa_diamond", {"question": "1 + 2?", "options": {"A": "3", "B": "4"}, "answer": "3"}),
    ("humaneval", {"question": "def three(): ...", "tests": ["assert three() == 3"], "entry_point": "three"}),
]


@pytest.fixture
def problem(tmp_path):
    def load(task, *rows):
        path = tmp_path / "own.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return held_out_problems([task], task_data={task: path})[0]

    return load


@pytest.mark.parametrize("task", HUB)
def test_a_copy_of_the_dataset_works_as_it_is(problem, task):
    found = problem(task, HUB[task])
    assert "1 + 2?" in found.prompt and found.family == task
    assert (found.answer or "").lstrip("0") in ("3", "", "A", "B", "C", "D")
    assert found.id == str(HUB[task].get("id", HUB[task].get("Record ID", HUB[task].get("task_id", found.id))))


@pytest.mark.parametrize(("task", "row"), COMMON)
def test_common_names_work_too(problem, task, row):
    found = problem(task, row)
    assert next(iter([row[name] for name in ("question", "problem", "prompt") if name in row])) in found.prompt
    assert found.answer == {"gpqa_diamond": "B" if row.get("answer") == "B" else "A"}.get(
        task, str(row["answer"]) if "answer" in row else None
    )
    assert found.id == row.get("id", found.id)


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("gsm8k", {"q": "1?", "a": "1"}, "found the columns q, a; expected also prompt as 'question' or 'prompt'"),
        ("aime24", {"problem": "1?", "gold": 1}, "found the columns problem, gold; expected also answer as 'answer'"),
        ("gpqa_diamond", {"question": "1?", "answer": "A"}, "choices as 'Incorrect Answer 1 with .*' or 'choices'"),
        ("humaneval", {"prompt": "def f(): ...", "tests": ["assert f()"]}, "entry_point as 'entry_point'"),
    ],
)
def test_a_missing_column_is_named_with_those_found(problem, task, row, message):
    with pytest.raises(ProblemError, match=rf"own\.jsonl: task {task}: .*{message}"):
        problem(task, row)


def test_files_that_are_none_leave_the_error_to_the_loader(tmp_path):
    own = {"prompt": "question"}
    assert columns_in(tmp_path / "none.jsonl", own, task="gsm8k") == own
    (tmp_path / "list.jsonl").write_text("[1]\n")
    assert columns_in(tmp_path / "list.jsonl", own, task="gsm8k") == own
    with pytest.raises(ProblemError, match=r"list\.jsonl:1: found list"):
        held_out_problems(["gsm8k"], task_data={"gsm8k": tmp_path / "list.jsonl"})


def test_an_absent_hub_names_the_way_out(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    with pytest.raises((InfrastructureError, ProblemError), match=r"--set data\.gpqa_diamond=FILE\.jsonl"):
        held_out_problems(["gpqa_diamond"])


def test_generated_problems_take_no_file(tmp_path):
    with pytest.raises(ConfigError, match="made of gym"):
        held_out_problems(["tiny"], task_data={"tiny": tmp_path / "x.jsonl"})
