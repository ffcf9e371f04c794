"""pytest tests/gate/test_report.py"""

import json
from dataclasses import replace
from math import log
from xml.etree import ElementTree

import pytest

from distill.errors import InfrastructureError
from distill.gate.decide import judge
from distill.gate.report import STEP_SUMMARY_BYTES, junit, summary, write_verdict
from distill.gate.spec import load_gate

FIXED = [f"gate.comparisons.{row}.method=bootstrap" for row in (0, 1)]
"""The shipped gate is sequential; a finished evaluation of fixed samples is judged by the bootstrap."""


@pytest.fixture(scope="module")
def verdicts(result_of):
    others = {"base": result_of([0, 0, 0, 1] * 25), "teacher": result_of([4] * 100)}
    students = {"PASS": [4] * 100, "FAIL": [0] * 100, "INCONCLUSIVE": [4, 4, 4, 2] * 25}
    found = {
        name: judge(load_gate("quickstart", overrides=FIXED), result_of(student), others)
        for name, student in students.items()
    }
    found["INVALID"] = judge(
        load_gate("quickstart", overrides=FIXED), result_of([4] * 100, num_distinct_seeds=1), others
    )
    return found


@pytest.fixture(scope="module")
def sequential(verdicts):
    """A verdict as rounds give it: no bounds, evidence instead."""
    row = replace(
        verdicts["PASS"].comparisons[0],
        lower_bound=None,
        upper_bound=None,
        rounds=12,
        cap_rounds=64,
        log_e_pass=log(27.1),
        log_e_fail=-2000.0,
        final_test="spent",
        rounds_to_decision=31,
        note="aime24: Table 5",
    )
    anchor = {"baseline": "o1-mini", "model": "public", "task": "aime24", "rounds": 12}
    return replace(
        verdicts["PASS"],
        comparisons=(row,),
        models={
            "student": {"model": "mine", "rounds": 12, "completion_tokens": 90210, "completion_tokens_drawn": 1234}
        },
        anchors=({**anchor, "measured": 0.6, "published": 0.636, "distance": -0.036},),
        notes=("prompt is new",),
        stopped_by="verdict",
    )


def properties(element):
    return {each.get("name"): each.get("value") for each in element.findall("properties/property")}


@pytest.mark.parametrize(
    ("outcome", "failures", "errors"), [("PASS", 0, 0), ("FAIL", 2, 0), ("INCONCLUSIVE", 0, 1), ("INVALID", 0, 1)]
)
def test_junit_is_green_only_for_a_pass(verdicts, outcome, failures, errors):
    verdict = verdicts[outcome]
    assert verdict.outcome == outcome
    root = ElementTree.fromstring(junit(verdict))
    suite = root.find("testsuite")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["validity", *(row.label for row in verdict.comparisons)]
    assert len(suite.findall("testcase/failure")) == failures
    assert len(suite.findall("testcase/error")) == errors
    for element in (root, suite):
        counts = {name: int(element.get(name)) for name in ("tests", "failures", "errors")}
        assert counts == {"tests": len(cases), "failures": failures, "errors": errors}
    assert (cases[0].find("error") is not None) == (outcome == "INVALID")
    assert all(case.get("classname") == "gate.quickstart" for case in cases)


def test_junit_says_what_was_used(verdicts):
    suite = ElementTree.fromstring(junit(verdicts["PASS"])).find("testsuite")
    found = properties(suite)
    assert found["completion_tokens.student"] == found["completion_tokens.teacher"] == str(100 * 4 * 10)
    assert (found["rounds.base"], found["items"], found["samples_per_item"]) == ("4", "100", "4")
    assert (found["outcome"], found["estimand"]) == ("PASS", "population")


def test_an_invalid_run_has_no_comparison_that_counts(verdicts):
    """A sequential gate has rounds, and so rows, before it is found invalid."""
    invalid = replace(verdicts["INVALID"], comparisons=verdicts["PASS"].comparisons)
    suite = ElementTree.fromstring(junit(invalid)).find("testsuite")
    assert [case.find("skipped") is not None for case in suite.findall("testcase")] == [False, True, True]
    assert "| PASS |" not in summary(invalid)


def test_junit_of_rounds_holds_the_evidence(sequential):
    suite = ElementTree.fromstring(junit(sequential)).find("testsuite")
    used = properties(suite)
    assert (used["completion_tokens_drawn.student"], used["stopped_by"]) == ("1234", "verdict")
    case = suite.findall("testcase")[1]
    found = properties(case)
    assert (found["rounds"], found["cap_rounds"], found["final_test"]) == ("12", "64", "spent")
    assert float(found["log_e_pass"]) == pytest.approx(log(27.1))
    assert "lower_bound" not in found and "alpha" in found
    assert "after 12 of at most 64 rounds" in case.find("system-out").text


def test_files_and_step_summary(verdicts, tmp_path, monkeypatch):
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    write_verdict(verdicts["PASS"], tmp_path / "gate")
    data = json.loads((tmp_path / "gate" / "verdict.json").read_text())
    assert (data["outcome"], data["exit_code"], data["estimand"]) == ("PASS", 0, "population")
    assert data["comparisons"][0]["method"].startswith("cluster bootstrap over items")
    used = {who: each["completion_tokens"] for who, each in data["models"].items()}
    assert used == {"student": 4000, "teacher": 4000, "base": 4000}
    assert sorted(path.name for path in (tmp_path / "gate").iterdir()) == ["junit.xml", "summary.md", "verdict.json"]
    text = (tmp_path / "gate" / "summary.md").read_text()
    assert step.read_text().startswith("before\n## Gate quickstart: PASS") and text in step.read_text()
    assert "| student >= 0.85 x teacher | PASS | 1.000 | 0.850 | +0.150 |" in text
    assert "Validity: no check failed." in text
    assert "| teacher | student | 4 | 4000 | - |" in text  # fixtures name every model "student"


def test_summary_of_rounds(sequential):
    text = summary(sequential)
    assert "| 12 of 64 |" in text
    assert "- aime24: Table 5" in text and "- prompt is new" in text
    assert "about 31 more rounds would decide" in text
    assert "final test at the cap is spent" in text and "Stopped by: verdict." in text
    assert "| student | mine | 12 | 90210 | 1234 |" in text
    assert "| o1-mini | public | aime24 | 12 | 0.600 | 0.636 | -0.036 |" in text
    assert "12 of 64" in sequential._repr_html_()


def test_a_verdict_that_is_not_final_is_no_step_summary(verdicts, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    write_verdict(verdicts["INCONCLUSIVE"], tmp_path / "gate", is_final=False)
    assert (tmp_path / "gate" / "verdict.json").exists() and not (tmp_path / "step.md").exists()


def test_no_step_summary_without_github(verdicts, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    write_verdict(verdicts["INVALID"], tmp_path)
    text = (tmp_path / "summary.md").read_text()
    assert text == summary(verdicts["INVALID"])
    assert "share a seed" in text
    assert "Validity: no check failed" not in text and "| outcome |" not in text


@pytest.mark.parametrize("before_bytes", [0, 400_000, STEP_SUMMARY_BYTES - 10])
def test_the_step_summary_stays_within_what_github_takes(verdicts, tmp_path, monkeypatch, before_bytes):
    step = tmp_path / "step.md"
    step.write_bytes(b"x" * before_bytes)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    many = tuple(f"item {number}: gold answer \u00e9 is no number." for number in range(50_000))
    write_verdict(replace(verdicts["INVALID"], reasons=many), tmp_path / "gate")
    assert "item 49999" in (tmp_path / "gate" / "summary.md").read_text()
    written = step.read_bytes()
    assert len(written) <= 1024 * 1024
    added = written[before_bytes:].decode()
    if before_bytes < 500_000:
        assert added.startswith("## Gate quickstart: INVALID") and added.endswith("gate/summary.md.\n")
        assert added.splitlines()[-3].endswith("is no number.")  # cut between lines
    else:
        assert added == ""


def test_names_cannot_break_the_table_or_bring_html(verdicts):
    row = replace(verdicts["PASS"].comparisons[0], label="a | b\nc\\| <img src=x>", note="<script>&")
    text = summary(replace(verdicts["PASS"], comparisons=(row,), student_model="m <b>\n## PASS"))
    assert "| a \\| b c\\\\\\| &lt;img src=x> | PASS |" in text
    assert "- &lt;script>&amp;" in text
    assert "<img" not in text and "<script" not in text and "<b>" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == ["## Gate quickstart: PASS"]


def test_control_characters_do_not_break_the_xml(verdicts):
    row = replace(verdicts["FAIL"].comparisons[0], note="bad \x00 & <b>", label="a\x1bb\nc")
    strange = replace(verdicts["FAIL"], gate="g\x07", comparisons=(row,), student_model="m\x00")
    suite = ElementTree.fromstring(junit(strange)).find("testsuite")
    assert properties(suite)["student"] == "m?"
    assert "\x00" not in summary(strange)


def test_a_place_that_cannot_be_written(verdicts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot be written"):
        write_verdict(verdicts["PASS"], tmp_path / "file" / "gate")
