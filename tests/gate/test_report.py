"""pytest tests/gate/test_report.py"""

import json
from xml.etree import ElementTree

import pytest

from distill.errors import InfrastructureError
from distill.gate.decide import judge
from distill.gate.report import junit, summary, write_verdict
from distill.gate.spec import load_gate

FIXED = [f"gate.comparisons.{row}.method=bootstrap" for row in (0, 1)]
"""The shipped gate is sequential; a finished evaluation of fixed samples is judged by the bootstrap."""


@pytest.fixture
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


@pytest.mark.parametrize(
    ("outcome", "failures", "errors"), [("PASS", 0, 0), ("FAIL", 2, 0), ("INCONCLUSIVE", 0, 1), ("INVALID", 0, 1)]
)
def test_junit_is_green_only_for_a_pass(verdicts, outcome, failures, errors):
    verdict = verdicts[outcome]
    assert verdict.outcome == outcome
    suite = ElementTree.fromstring(junit(verdict)).find("testsuite")
    cases = suite.findall("testcase")
    assert int(suite.get("tests")) == len(cases) == max(1, len(verdict.comparisons))
    assert len(suite.findall("testcase/failure")) == int(suite.get("failures")) == failures
    assert len(suite.findall("testcase/error")) == int(suite.get("errors")) == errors
    assert all(case.get("classname") == "gate.quickstart" and case.get("name") for case in cases)


def test_files_and_step_summary(verdicts, tmp_path, monkeypatch):
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    write_verdict(verdicts["PASS"], tmp_path / "gate")
    data = json.loads((tmp_path / "gate" / "verdict.json").read_text())
    assert (data["outcome"], data["exit_code"], data["estimand"]) == ("PASS", 0, "population")
    assert data["comparisons"][0]["method"].startswith("cluster bootstrap over items")
    assert sorted(path.name for path in (tmp_path / "gate").iterdir()) == ["junit.xml", "summary.md", "verdict.json"]
    text = (tmp_path / "gate" / "summary.md").read_text()
    assert step.read_text().startswith("before\n## Gate quickstart: PASS") and text in step.read_text()
    assert "| student >= 0.85 x teacher | PASS | 1.000 | 0.850 | +0.150 |" in text


def test_no_step_summary_without_github(verdicts, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    write_verdict(verdicts["INVALID"], tmp_path)
    assert "share a seed" in (tmp_path / "summary.md").read_text() == summary(verdicts["INVALID"])


def test_control_characters_do_not_break_the_xml(verdicts):
    from dataclasses import replace

    row = replace(verdicts["FAIL"].comparisons[0], note="bad \x00 & <b>")
    ElementTree.fromstring(junit(replace(verdicts["FAIL"], comparisons=(row,))))


def test_a_place_that_cannot_be_written(verdicts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot be written"):
        write_verdict(verdicts["PASS"], tmp_path / "file" / "gate")
