"""`distill teachers compare`: the same problems asked of several teachers, into compare.json and compare.html.

    distill teachers compare RECIPE --out DIR --base-url http://a:8000/v1 --base-url http://b:8000/v1 --problems 300

Samples are in DIR/ledger.db, shared by all teachers: nothing is drawn twice, the same command goes on after a kill, and
a DIR that is a harvest's run directory gives and takes samples. Teachers are asked one after the other, so that the
seconds of one are not those of another; a teacher that fails in the middle ends the command with exit code 6.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from distill.errors import ConfigError

RESULT_FILE = "compare.json"
PAGE_FILE = "compare.html"


def compare_command(
    target: str,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    base_urls: Sequence[str] = (),
    models: Sequence[str] = (),
    cards: Sequence[str] = (),
    problems: int = 300,
    samples: int = 1,
) -> dict[str, Any]:
    """Ask every teacher, write the figures, and give them back with the table as `summary`.

    Raises: ConfigError, CatalogError, ProblemError for what is given; TeacherError or InfrastructureError before
    anything is spent where a teacher does not answer as it should.
    """
    from distill.compare.page import page_of
    from distill.compare.sampling import ask_teacher
    from distill.compare.table import table_text
    from distill.compare.target import load_target, pick
    from distill.compare.teachers import open_teachers, teacher_specs
    from distill.provenance import write_text_atomically
    from distill.store.ledger import Ledger

    for name, number in (("--problems", problems), ("--samples", samples)):
        if number < 1:
            raise ConfigError(f"{name}: expected at least 1, found {number}.")
    specs = teacher_specs(base_urls, models, cards)
    loaded = load_target(target, overrides)
    picked = pick(loaded.problems, problems, seed=loaded.seed)
    with Ledger.open(out / "ledger.db", create=True) as ledger:
        teachers = open_teachers(specs, loaded, question=picked[0].prompt)
        found = []
        for teacher in teachers:
            found.append(ask_teacher(teacher, ledger, picked, samples=samples, seed=loaded.seed))
            if teacher.engine is not None:
                teacher.engine.close()
    result = {
        "target": loaded.name,
        "seed": loaded.seed,
        "problems": len(picked),
        "problems_known": len(loaded.problems),
        "samples_per_problem": samples,
        **_figures(found, picked, samples),
        "problem_ids": [problem.id for problem in picked],
    }
    write_text_atomically(out / RESULT_FILE, json.dumps(result, indent=1) + "\n")
    write_text_atomically(out / PAGE_FILE, page_of(result))
    return {**result, "page": str(out / PAGE_FILE), "summary": f"{table_text(result)}\n{out / PAGE_FILE}"}


def _figures(found: Sequence[Any], problems: Sequence[Any], samples: int) -> dict[str, Any]:
    """Of each teacher and of each pair; answers are compared in workers, under limits of time and memory."""
    from distill.compare.figures import answer_labels, figures_of, pair_figures
    from distill.verify.classes import compare_in
    from distill.verify.pool import VerifierPool

    with VerifierPool(1) as pool:
        labels = answer_labels(found, problems, compare_in(pool))
    pairs = [
        pair_figures(
            found[one], found[other], problems, samples, {name: [row[one], row[other]] for name, row in labels.items()}
        ).to_dict()
        for one, other in combinations(range(len(found)), 2)
    ]
    return {"teachers": [figures_of(each, problems, samples).to_dict() for each in found], "pairs": pairs}
