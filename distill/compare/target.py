"""What teachers are compared on: the problems of a recipe or of a JSONL file, a few hundred of them, drawn by seed.

    target = load_target("qwen2.5-32b/r1-distill", overrides); target.problems, target.harvest_of("deepseek-r1")
    picked = pick(target.problems, 300, seed=target.seed)

A recipe's problems are its training problems, the held-out ones removed; how they are sampled is what the recipe says,
and where it says nothing what each teacher's own card says, as in a harvest with that teacher. So samples have the keys
that a harvest would give them. A JSONL file needs the columns `prompt` and `answer`.
Not covered: other columns and other verifiers for a JSONL file (write a recipe).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.cards import load_teacher
from distill.config import apply_overrides, parse
from distill.errors import ConfigError
from distill.recipes import Endpoint, Harvest, load_recipe
from distill.records import Problem, stable_hash

DEFAULT_SAMPLING = {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 32768}
"""For a served model without a card, on a JSONL file: DeepSeek-R1's (arXiv 2501.12948, section 3)."""


@dataclass(frozen=True)
class Target:
    """Problems, and how teachers are asked them; `harvest_of` takes a teacher card's name, or None."""

    name: str
    problems: list[Problem]
    seed: int
    endpoint: Endpoint
    harvest_of: Callable[[str | None], Harvest]


def load_target(target: str, overrides: Sequence[str]) -> Target:
    """The target of a recipe's name or path, or of a JSONL file. Raises: CatalogError, ConfigError, ProblemError."""
    if target.endswith(".jsonl"):
        return _of_jsonl(Path(target), overrides)
    from distill.evaluate.tasks import held_out_problems
    from distill.problems import training_problems

    recipe = load_recipe(target, overrides)
    problems, _, _ = training_problems(recipe, held_out_problems(recipe.evaluation.tasks), target)

    def harvest_of(card: str | None) -> Harvest:
        return recipe.harvest if card is None else load_recipe(target, [*overrides, f"teacher={card}"]).harvest

    return Target(target, problems, recipe.seed, recipe.endpoint, harvest_of)


def _of_jsonl(path: Path, overrides: Sequence[str]) -> Target:
    from distill.problems import load_problems

    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give a JSONL file with the columns prompt and answer, or a recipe.")
    source = {"path": str(path.resolve()), "prompt": "prompt", "answer": "answer", "domain": path.stem}
    problems = load_problems([{"jsonl": {**source, "licence": "not stated", "verifier": "math"}}])
    given = apply_overrides({"harvest": {}, "endpoint": {}}, overrides)

    def harvest_of(card: str | None) -> Harvest:
        sampling: dict[str, Any] = DEFAULT_SAMPLING
        if card is not None:
            sampling = load_teacher(card).sampling.model_dump(include=set(DEFAULT_SAMPLING))
        return parse(Harvest, {"samples_per_problem": 1, **sampling, **given["harvest"]}, where="--set harvest")

    endpoint = parse(Endpoint, given["endpoint"], where="--set endpoint")
    return Target(str(path), problems, 0, endpoint, harvest_of)


def pick(problems: Sequence[Problem], number: int, *, seed: int) -> list[Problem]:
    """`number` problems (all, if there are fewer), each family in its share, in the order given.

    Which ones is decided by a hash of seed and id: a larger number adds problems and keeps the others of a family.
    """
    if number >= len(problems):
        return list(problems)
    families: dict[str, list[Problem]] = {}
    for problem in problems:
        families.setdefault(problem.family, []).append(problem)
    quotas = {name: number * len(group) / len(problems) for name, group in families.items()}
    counts = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (counts[name] - quotas[name], name))
    for name in by_remainder[: number - sum(counts.values())]:
        counts[name] += 1
    chosen = {
        problem.id
        for name, group in families.items()
        for problem in sorted(group, key=lambda each: stable_hash(seed, each.id))[: counts[name]]
    }
    return [problem for problem in problems if problem.id in chosen]
