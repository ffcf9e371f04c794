r"""Every shipped task through a real lm-eval run: answers score as a person would score them.

Each case is run twice: through this toolkit's evaluation and through lm-eval alone with plain texts.
pytest tests/evaluate/test_task_scores.py
"""

import random

import pytest

from distill.evaluate.runner import evaluate
from distill.evaluate.tasks import held_out_problems
from distill.records import SamplingParams
from distill.store.ledger import Ledger
from distill.verify.sandbox_capabilities import sandbox_capabilities

PARAMS = SamplingParams(temperature=0.6, top_p=0.95, max_new_tokens=64)

MATH = [  # gold, what the model wrote, how a person scores it
    ("73", r"<think>x</think>\boxed{73}", "correct"),
    ("73", r"<think>x</think>\boxed{073}", "correct"),
    ("073", r"<think>x</think>\boxed{73}", "correct"),
    ("073", r"<think>x</think>\boxed{\text{73}}", "correct"),
    ("73", "<think>x</think>073", "correct"),
    ("73", r"<think>x</think>\boxed{73.}", "correct"),
    ("73", r"<think>x</think>\boxed{\text{73}}", "correct"),
    ("73", r"<think>x</think>\text{73}", "correct"),
    ("73", r"<think>x</think>\boxed{m+n=73}", "correct"),
    ("73", "<think>x</think>The answer is 73.", "correct"),
    ("1024", r"<think>x</think>\boxed{1,024}", "correct"),
    ("1,024", r"<think>x</think>\boxed{1024}", "correct"),
    ("1024", "<think>x</think>The answer is 1,024.", "correct"),
    ("18", r"<think>x</think>\boxed{\$18}", "correct"),
    ("18", r"<think>I try \boxed{3}</think>At first \boxed{3}, but no: \boxed{18}.", "correct"),
    ("18", "no thought at all, 9 + 9 = 18", "correct"),
    ("73", r"<think>x</think>\boxed{74}", "wrong"),
    ("73", r"<think>it is \boxed{73}</think>\boxed{37}", "wrong"),
    ("73", r"<think>it is \boxed{73}, is it", "no_answer"),
    ("73", r"<think>it is \boxed{73}, or...", "truncated"),
    ("73", "<think>x</think>I do not know.\nSorry.", "no_answer"),
]
MATH_TASKS = {
    "aime24": lambda place, gold: {"problem": f"Case {place}?", "answer": gold},
    "aime25": lambda place, gold: {"problem": f"Case {place}?", "answer": gold, "id": str(place)},
    "math500": lambda place, gold: {"problem": f"Case {place}?", "answer": gold, "solution": "short"},
    "gsm8k": lambda place, gold: {"question": f"Case {place}?", "answer": f"So it goes.\n#### {gold}"},
}


@pytest.fixture
def outcomes(scripted_engine, tmp_path):
    """(outcome by item, pass@1 by prompt) of a task on a file, by this toolkit's own evaluation."""

    def run(task, path, script):
        with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
            engine = scripted_engine(script)
            result = evaluate(
                [task], engine, ledger, samples_per_item=1, params=PARAMS, run_seed=0, task_data={task: path}
            )
        return [item.outcomes[0] for item in result.tasks[task].items], result.tasks[task].scores["pass@1"]

    return run


def case(message: str) -> int:
    return int(message.split("?")[0].split()[-1])


@pytest.mark.parametrize("task", MATH_TASKS)
def test_math_is_scored_as_a_person_would(task, jsonl, outcomes, stock_scores):
    path = jsonl("own.jsonl", [MATH_TASKS[task](place, gold) for place, (gold, _, _) in enumerate(MATH)])

    def script(message, index):
        return MATH[case(message)][1]

    found, score = outcomes(task, path, script)
    assert found == [expected for _, _, expected in MATH]
    stock, _, settings = stock_scores(task, path, script)
    assert stock["pass@1,all"] == pytest.approx(score)
    assert stock["no_answer_rate,all"] == pytest.approx(3 / len(MATH))  # how a text finished is not known there
    r1 = {"temperature": 0.6, "top_p": 0.95, "max_gen_toks": 32768, "until": [], "do_sample": True, "top_k": 0}
    assert settings == [r1] * len(MATH)


def test_a_thought_that_the_prompt_opened_and_nobody_closed_is_no_answer(jsonl, stock_scores):
    path = jsonl("own.jsonl", [{"problem": f"Case {place}?", "answer": "73"} for place in range(2)])
    texts = [r"it is \boxed{73}, is it", r"it is \boxed{37}</think>\boxed{73}"]
    found, by_item, _ = stock_scores("aime24", path, lambda message, index: texts[case(message)], "<think>\n")
    assert list(by_item.values()) == [0.0, 1.0] and found["no_answer_rate,all"] == 0.5


# --- GPQA-diamond ----------------------------------------------------------------------------------------------------

GPQA = [
    {
        "Record ID": f"rec{place}",
        "Question": f"Of 1, 2, 3 and 4, which is {place % 4 + 1}? Number {place}?",
        "Correct Answer": f"{place % 4 + 1}\n",
        **{f"Incorrect Answer {n}": str((place + n) % 4 + 1) for n in (1, 2, 3)},
    }
    for place in range(40)
]


def test_gpqa_options_depend_on_the_question_alone(jsonl):
    random.seed(1)
    first = held_out_problems(["gpqa_diamond"], task_data={"gpqa_diamond": jsonl("a.jsonl", GPQA)})
    random.seed(2)
    again = held_out_problems(["gpqa_diamond"], task_data={"gpqa_diamond": jsonl("b.jsonl", reversed(GPQA))})
    assert {p.id: (p.prompt, p.answer) for p in first} == {p.id: (p.prompt, p.answer) for p in again}
    assert {problem.answer for problem in first} == set("ABCD")
    for row, problem in zip(GPQA, first, strict=True):
        options = problem.meta["choices"]
        assert sorted(options) == ["1", "2", "3", "4"] and problem.id == row["Record ID"]
        assert options["ABCD".index(problem.answer)] == row["Correct Answer"].strip()
        assert all(f"\n{letter}. {text}" in problem.prompt for letter, text in zip("ABCD", options, strict=True))


def test_gpqa_is_scored_as_a_person_would(jsonl, outcomes, stock_scores):
    path = jsonl("own.jsonl", GPQA[:8])
    problems = held_out_problems(["gpqa_diamond"], task_data={"gpqa_diamond": path})
    right = [problem.answer for problem in problems]
    other = ["ABCD"[("ABCD".index(letter) + 1) % 4] for letter in right]
    cases = [
        (rf"<think>x</think>\boxed{{{right[0]}}}", "correct"),
        (rf"<think>x</think>\boxed{{\text{{{right[1]}}}}}", "correct"),
        (f"<think>x</think>Answer: ({right[2]}). Unlike ({other[2]}), it holds.", "correct"),
        (f"<think>x</think>The answer is {right[3]}.", "correct"),
        (rf"<think>x</think>\boxed{{{problems[4].meta['choices']['ABCD'.index(right[4])]}}}", "correct"),
        (rf"<think>\boxed{{{right[5]}}}</think>\boxed{{{other[5]}}}", "wrong"),
        (rf"<think>\boxed{{{right[6]}}}", "no_answer"),
        (
            f"<think>x</think>Either {right[7]} or {other[7]}, I cannot tell which of the two it may well be.",
            "no_answer",
        ),
    ]
    texts = {problem.prompt: text for problem, (text, _) in zip(problems, cases, strict=True)}
    found, score = outcomes("gpqa_diamond", path, lambda message, index: texts[message])
    assert found == [expected for _, expected in cases]
    stock, _, _ = stock_scores("gpqa_diamond", path, lambda message, index: texts[message])
    assert stock["pass@1,all"] == score == 5 / 8


# --- HumanEval -------------------------------------------------------------------------------------------------------


def function_row(place: int) -> dict[str, str]:
    """A problem in HumanEval's form whose prompt has an import and a function that solution and tests rely on."""
    name = f"total_{place}"
    shown = f"def {name}(values: List[int]) -> int:\n"
    helper = 'from typing import List\n\n\ndef twice(n: int) -> int:\n    """Twice n."""\n    return 2 * n\n\n\n'
    return {
        "task_id": f"own/{place}",
        "prompt": f'{helper}{shown}    """The sum of the doubled values? Number {place}?"""\n',
        "canonical_solution": "    return sum(twice(value) for value in values)\n",
        "test": "def check(candidate):\n    assert candidate([1, 2]) == twice(3)\n    assert candidate([]) == 0\n",
        "entry_point": name,
    }


@pytest.mark.skipif(sandbox_capabilities().isolation is None, reason="no sandbox here")
def test_humaneval_runs_the_code_with_what_the_prompt_shows(jsonl, outcomes, stock_scores):
    path = jsonl("own.jsonl", [function_row(place) for place in range(6)])
    body = "    return sum(twice(value) for value in values)\n"
    signature = "def total_{}(values: List[int]) -> int:\n"
    cases = [
        (f"<think>x</think>```python\n{signature.format(0)}{body}```", "correct"),
        (
            "So:\n```python\nfrom __future__ import annotations\nfrom typing import List\n\n"
            f"def twice(n): return n + n\n\n{signature.format(1)}{body}```\nIt adds.",
            "correct",
        ),
        (f"```python\n{signature.format(2)}    return 0\n```", "wrong"),
        (f"```python\ndef another(values):\n{body}```", "wrong"),
        ("I would sum them.", "no_answer"),
        (f"<think>```python\n{signature.format(5)}{body}```", "no_answer"),
    ]
    found, score = outcomes("humaneval", path, lambda message, index: cases[int(message.split("Number ")[1][0])][0])
    assert found == [expected for _, expected in cases]
    script = {problem.prompt: text for problem, (text, _) in zip(problems_of(path), cases, strict=True)}
    stock, _, _ = stock_scores("humaneval", path, lambda message, index: script[message])
    assert stock["pass@1,all"] == pytest.approx(score) == pytest.approx(2 / 6)


def problems_of(path):
    return held_out_problems(["humaneval"], task_data={"humaneval": path})


def test_humaneval_without_a_sandbox_asks_for_no_sample(jsonl, scripted_engine, tmp_path, monkeypatch):
    from distill.verify import sandbox_capabilities as module

    none = module.SandboxCapabilities("Linux", 0, dict.fromkeys(module.WAYS, "not permitted"), None)
    monkeypatch.setattr(module, "sandbox_capabilities", lambda: none)
    module.isolation_here.cache_clear()
    engine = scripted_engine(lambda message, index: "never")
    path = jsonl("own.jsonl", [function_row(0)])
    try:
        with Ledger.open(tmp_path / "l.db", create=True) as ledger, pytest.raises(module.SandboxUnavailable) as caught:
            evaluate(
                ["humaneval"],
                engine,
                ledger,
                samples_per_item=1,
                params=PARAMS,
                run_seed=0,
                task_data={"humaneval": path},
            )
    finally:
        module.isolation_here.cache_clear()
    assert "cannot be locked in" in str(caught.value) and engine.requests == []
