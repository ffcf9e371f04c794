"""Which problems are compared on: by seed, each family in its share; and what is asked of them."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from distill.compare.target import load_target, pick
from distill.errors import CatalogError, ConfigError, ProblemError
from distill.records import Problem


def problems(**families: int) -> list[Problem]:
    return [
        Problem(f"{family}-{at}", f"{family} {at}?", "1", "exact", family, "d", "s", "mit")
        for family, size in families.items()
        for at in range(size)
    ]


def test_each_family_has_its_share():
    picked = pick(problems(a=700, b=200, c=100), 100, seed=1)
    assert Counter(problem.family for problem in picked) == {"a": 70, "b": 20, "c": 10}
    odd = pick(problems(a=5, b=3, c=2), 4, seed=1)
    assert len(odd) == 4 and Counter(problem.family for problem in odd)["a"] == 2


def test_the_seed_decides_and_more_keeps_those_there():
    known = problems(a=100, b=50)
    fewer, more = (pick(known, number, seed=3) for number in (30, 60))
    assert fewer == pick(known, 30, seed=3) != pick(known, 30, seed=4)
    assert {problem.id for problem in fewer} < {problem.id for problem in more}
    assert pick(known, 1000, seed=3) == known


def test_a_recipe_asks_each_teacher_as_its_card_says():
    target = load_target("tiny/quickstart", ["problems.train=[{gym: {family: gcd, size: 20, seed: 5}}]"])
    assert len(target.problems) == 20
    assert target.harvest_of("tiny").max_new_tokens == 320
    assert target.harvest_of("deepseek-r1").max_new_tokens > 320
    fixed = load_target("tiny/quickstart", ["harvest.max_new_tokens=77"])
    assert fixed.harvest_of("deepseek-r1").max_new_tokens == 77


def test_a_file_of_problems(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{at}+1", "answer": str(at + 1)}) + "\n" for at in range(4)))
    target = load_target(str(path), ["harvest.temperature=0.2", "endpoint.max_in_flight=3"])
    assert [problem.verifier for problem in target.problems] == ["math"] * 4
    settings = target.harvest_of(None)
    assert (settings.temperature, settings.max_new_tokens, target.endpoint.max_in_flight) == (0.2, 32768, 3)
    assert target.harvest_of("tiny").max_new_tokens == 320


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none.jsonl", ConfigError, "no such file; give a JSONL file with the columns prompt and answer"),
        ("no-such-recipe", CatalogError, "not found in the catalogue"),
    ],
)
def test_a_target_that_is_not_there(name, error, message):
    with pytest.raises(error, match=message):
        load_target(name, [])


def test_a_file_without_answers(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "1+1?"}\n')
    with pytest.raises(ProblemError, match="answer"):
        load_target(str(tmp_path / "p.jsonl"), [])
