"""The funnel of a run directory: the same counts as its files, on the page, on stdout and as JSON."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest

from distill.cli import main
from distill.curate.funnel import PASS_RATE_BINS
from distill.records import ProblemYield
from distill.report.funnel import is_curated, lines, read_funnel
from distill.report.html import write_report
from distill.store.ledger import Ledger
from distill.store.parquet import read_drops, read_traces


def test_it_is_that_of_the_dataset(run_directory):
    kept, drops = (read(run_directory / "dataset") for read in (read_traces, read_drops))
    funnel = read_funnel(run_directory)
    assert funnel.total.samples[0] == len(kept) + len(drops)
    assert funnel.total.samples[-1] == len(kept)
    assert funnel.total.tokens == sum(row["completion_tokens"] for row in (*kept, *drops))
    assert funnel.rejects == {"verified": dict(Counter(row["reason"] for row in drops))}
    assert set(funnel.by["family"]) == {row["family"] for row in (*kept, *drops)}
    text = write_report(run_directory).read_text()
    assert f"{len(kept):,}</td>" in text[text.index('<section id="funnel">') :]
    assert f"kept {funnel.total.samples[-1]} " in " ".join(lines(funnel).split())


def test_before_curation_it_ends_at_verified(run_directory):
    shutil.rmtree(run_directory / "dataset")
    harvest = json.loads((run_directory / "run.json").read_text())["harvest"]
    funnel = read_funnel(run_directory)
    assert not is_curated(funnel)
    assert funnel.total.samples[:4] == [harvest["samples"]] * 3 + [harvest["accepted"]]
    text = lines(funnel)
    assert "verified" in text and "unique" not in text
    page = write_report(run_directory).read_text()
    assert "Not curated yet: the funnel goes on from there." in page


def test_of_a_harvest_that_was_killed_what_is_settled(run_directory):
    """Other harvests of the same ledger do not count."""
    shutil.rmtree(run_directory / "dataset")
    path = run_directory / "run.json"
    run = json.loads(path.read_text())
    run["harvest"] = {"teacher_fingerprint": "f", "scope": "this"}
    run["stages"]["harvest"]["state"] = "interrupted"
    path.write_text(json.dumps(run))
    yields = [
        ProblemYield("a", "enough", {"correct": 2, "wrong": 1, "truncated": 1}, {"stop": 3, "length": 1}, 100, 0.5),
        ProblemYield("b", "hopeless", {"no_answer": 3, "wrong": 1}, {"aborted": 2, "stop": 2}, 60, 0.3),
    ]
    with Ledger.open(run_directory / "ledger.db") as ledger:
        ledger.add_yields("this", yields)
        ledger.add_yields("that", [ProblemYield("c", "enough", {"correct": 9}, {"stop": 9}, 900, 9.0)])
    funnel = read_funnel(run_directory)
    assert funnel.total.samples[:4] == [8, 5, 4, 2]
    assert funnel.total.steps[3].tokens_each == 80
    assert funnel.total.steps[3].usd_each == pytest.approx(0.4)
    assert funnel.rejects == {
        "finished": {"truncated": 1, "aborted": 2}, "parsed": {"no_answer": 1}, "verified": {"wrong": 2},
    }  # fmt: skip
    assert "verified 2 1 50.0%" in " ".join(lines(funnel).split())


def test_nothing_harvested(run_directory):
    shutil.rmtree(run_directory / "dataset")
    path = run_directory / "run.json"
    run = json.loads(path.read_text())
    del run["harvest"]
    path.write_text(json.dumps(run))
    assert read_funnel(run_directory) is None
    assert "Nothing has been harvested yet." in write_report(run_directory).read_text()


def test_json_and_lines_of_the_command(run_directory, capsys):
    assert main(["report", str(run_directory), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["funnel"]
    assert [step["step"] for step in found["steps"]] == [
        "samples", "finished", "parsed", "verified", "unique", "clean", "kept",
    ]  # fmt: skip
    assert {"by_source", "by_domain", "by_family", "rejects", "tokens", "cost_usd"} <= found.keys()
    assert main(["report", str(run_directory)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[0] == "step" and shown[1].split()[0] == "problems"
    assert shown[-1] == f"report: {run_directory / 'report.html'}"


def test_a_harvest_that_went_on_is_said(run_directory):
    path = run_directory / "run.json"
    run = json.loads(path.read_text())
    run["harvest"]["samples"] += 5
    path.write_text(json.dumps(run))
    page = write_report(run_directory).read_text()
    curated = run["harvest"]["samples"] - 5
    assert f"The harvest has {curated + 5} samples, {curated} of them are curated." in page


@pytest.fixture
def with_pass_rates(run_directory):
    """The dataset with estimated pass rates and prices, as a harvest of a priced teacher leaves it."""
    for path in (run_directory / "dataset").glob("*.parquet"):
        table = pyarrow.parquet.read_table(path)
        rates = [(sum(map(ord, name)) % 11) / 10 for name in table["problem_id"].to_pylist()]
        for name, values in {
            "pass_rate": rates, "pass_rate_low": [max(0.0, rate - 0.1) for rate in rates],
            "pass_rate_high": [min(1.0, rate + 0.1) for rate in rates], "attempts": [3] * len(rates),
        }.items():  # fmt: skip
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, pyarrow.array(values))
        table = table.drop_columns(["cost_usd"]).append_column("cost_usd", pyarrow.array([0.01] * len(table)))
        pyarrow.parquet.write_table(table, path)
    return run_directory


def test_difficulty_and_dollars(with_pass_rates):
    funnel = read_funnel(with_pass_rates)
    assert sum(funnel.pass_rates.bins) == funnel.pass_rates.problems == funnel.total.problems[0]
    assert len(funnel.pass_rates.bins) == PASS_RATE_BINS
    assert funnel.total.dollars == pytest.approx(0.01 * funnel.total.samples[0])
    page = write_report(with_pass_rates).read_text()
    assert "<h3>Difficulty</h3>" in page and "dollars each kept" in page
    assert "dollars each" in lines(funnel)
