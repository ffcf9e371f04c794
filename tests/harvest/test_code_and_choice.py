"""From a recipe's problem source to verdicts in the ledger, for code and multiple choice."""

from __future__ import annotations

import json
from dataclasses import replace

from distill.engines.reasoning import split_reasoning
from distill.harvest.runner import harvest
from distill.problems import load_problems
from distill.recipes import Problems

FIELDS = {"prompt": "question", "licence": "MIT"}
FENCED = "<think>\nt\n</think>\n\n```python\n{}\n```"


def answers_of(engine, texts):
    class Answers(engine):
        def _sample(self, request):
            text = texts[request.index]
            reasoning, answer = split_reasoning(text)
            plain = super()._sample(replace(request, prompt="<user>1+1<assistant>"))
            made = {"key": request.key(self.fingerprint), "prompt_hash": request.prompt_hash, "seed": request.seed}
            return replace(plain, **made, text=text, reasoning=reasoning, answer=answer, finish_reason="stop")

    return Answers()


def harvested(engine, ledger, asking_of, tmp_path, source, texts):
    recipe = Problems.model_validate({"train": [{"jsonl": source}]})
    problems = load_problems(recipe.sources(), base_dir=tmp_path)
    asking = asking_of(most=len(texts))
    summary = harvest(answers_of(engine, texts), ledger, problems, asking, verify_workers=1, verify_timeout_seconds=60)
    return summary.outcomes


def test_code(engine, ledger, asking_of, tmp_path):
    row = {"question": "Add two numbers.", "tests": json.dumps([{"input": "1 2", "output": "3"}])}
    (tmp_path / "c.jsonl").write_text(json.dumps(row))
    source = {"path": "c.jsonl", "tests": "tests", "domain": "code", "verifier": "code", **FIELDS}
    right, wrong = FENCED.format("print(sum(map(int, input().split())))"), FENCED.format("print(4)")
    outcomes = harvested(engine, ledger, asking_of, tmp_path, source, [right, wrong, "<think>\nt\n</think>\n\nno"])
    assert outcomes == {"correct": 1, "no_answer": 1, "wrong": 1}


def test_choice(engine, ledger, asking_of, tmp_path):
    row = {"question": "Which is blue?", "options": ["grass", "sky"], "key": 1}
    (tmp_path / "c.jsonl").write_text(json.dumps(row))
    source = {"path": "c.jsonl", "answer": "key", "choices": "options", "domain": "s", "verifier": "choice", **FIELDS}
    texts = [f"<think>\nt\n</think>\n\n{answer}" for answer in ("Answer: B", "(A)", "(A) or (B)")]
    outcomes = harvested(engine, ledger, asking_of, tmp_path, source, texts)
    assert outcomes == {"correct": 1, "no_answer": 1, "wrong": 1}
