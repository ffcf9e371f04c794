"""The card's counts are those of the rows, and `datasets` reads its header."""

from __future__ import annotations

import yaml

from distill.curate.card import dataset_card, licence_union
from distill.curate.pipeline import build_steps, curate
from distill.store.parquet import write_dataset

SPEC = [{"verified": None}, {"max_per_problem": {"max_traces": 1}}]


def make_card(row):
    rows = [
        row(0),
        row(0, 1),
        row(1, licence="MIT", family="a|b"),
        row(2, outcome="wrong"),
        row(3, outcome="no_answer"),
    ]
    result = curate(rows, build_steps(SPEC))
    card = dataset_card(
        result, title="tiny/quickstart", steps=SPEC, teacher_licence="Apache-2.0", command="distill curate x"
    )
    return result, card


def test_counts_licences_teacher_and_steps(row):
    result, card = make_card(row)
    for line in (
        "2 traces of 2 problems, 24 completion tokens by the teacher's tokenizer, kept out of 5 samples (40.0%).",
        "Made by `distill curate x`.",
        "| problems | 4 | 4 | - | - | 15 |",
        "| verified | 3 | 2 | 75.0% | 30.1% to 95.4% | 20 |",
        "| kept | 2 | 2 | 66.7% | 20.8% to 93.9% | 30 |",
        "| mathematics | sums | 1 | 3 | 12 |",
        "| mathematics | a\\|b | 1 | 0 | 12 |",
        "| tiny | f0 | 0.6 | 0.95 | 2 |",
        "Licence of the teacher: Apache-2.0.",
        "| MIT | written here | 1 |",
        "| verified | defaults | 2 | no_answer 1, wrong 1 |",
        "| max_per_problem | max_traces=1 | 1 | over_per_problem 1 |",
    ):
        assert line in card, line
    assert licence_union(result.kept) == ["Apache-2.0", "MIT"]


def test_datasets_reads_the_card(row, tmp_path):
    import datasets

    result, card = make_card(row)
    assert yaml.safe_load(card.split("---\n")[1])["license_name"] == "Apache-2.0 and MIT"
    write_dataset(tmp_path / "dataset", result.kept, result.drops, card)
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["id"] == [kept["id"] for kept in result.kept]
    assert (tmp_path / "dataset" / "README.md").read_text() == card


def test_a_dataset_without_traces_has_a_card(row):
    card = dataset_card(curate([row(outcome="wrong")], build_steps(SPEC)), title="x", steps=SPEC)
    assert "0 traces of 0 problems" in card and "license_name: none" in card
