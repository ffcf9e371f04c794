"""Writes a verdict for those who read it: verdict.json for programs, junit.xml for CI, summary.md for people.

    write_verdict(verdict, run_directory / "gate")

On GitHub Actions the summary is also appended to the step's summary ($GITHUB_STEP_SUMMARY).
JUnit: one test case a comparison; FAIL is a failure, INCONCLUSIVE and INVALID are errors: none of them is green.
Not covered: the HTML report of a run (`distill/report/`).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

from distill.errors import InfrastructureError
from distill.gate.verdict import COLUMNS, ComparisonVerdict, GateVerdict, cells

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_verdict(verdict: GateVerdict, directory: str | Path, *, is_final: bool = True) -> None:
    """Write the three files into `directory`, and the step summary where there is one and the verdict is final.

    Raises: InfrastructureError if they cannot be written.
    """
    directory = Path(directory)
    files = {
        "verdict.json": json.dumps(verdict.to_dict(), indent=1) + "\n",
        "junit.xml": junit(verdict),
        "summary.md": summary(verdict),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            partial = directory / f"{name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(directory / name)
        step_summary = os.environ.get(STEP_SUMMARY)
        if step_summary and is_final:
            with open(step_summary, "a", encoding="utf-8") as stream:
                stream.write(files["summary.md"] + "\n")
    except OSError as error:
        raise InfrastructureError(
            f"gate: the verdict ({verdict.outcome}) cannot be written to {error.filename}: {error.strerror}."
        ) from error


def summary(verdict: GateVerdict) -> str:
    """The verdict as Markdown: outcome, one row a comparison, how it was measured."""
    lines = [f"## Gate {verdict.gate}: {verdict.outcome}", ""]
    if verdict.outcome == "INVALID":
        lines += ["The run may not be judged:", "", *(f"- {reason}" for reason in verdict.reasons)]
        return "\n".join(lines) + "\n"
    lines += [_row(COLUMNS), _row("---" for _ in COLUMNS), *(_row(cells(row)) for row in verdict.comparisons), ""]
    methods = dict.fromkeys(row.method for row in verdict.comparisons)
    lines.append(
        f"{verdict.student_model}: {verdict.n_items} items of {', '.join(verdict.tasks)}, {verdict.samples_per_item} "
        f"samples an item; estimand: {verdict.estimand}; {'; '.join(methods)}. Bounds are one-sided, each at its alpha."
    )
    lines += ["", *(f"- {row.note}" for row in verdict.comparisons if row.note)]
    return "\n".join(lines).rstrip() + "\n"


def _row(values: object) -> str:
    return "| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |"  # type: ignore[attr-defined]


def junit(verdict: GateVerdict) -> str:
    """The verdict as JUnit XML."""
    suite = ElementTree.Element("testsuite", name=f"gate {verdict.gate}")
    if verdict.outcome == "INVALID":
        case = _case(suite, verdict, "validity")
        _complain(case, "error", "INVALID", "\n".join(verdict.reasons))
    for row in verdict.comparisons:
        _comparison_case(suite, verdict, row)
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite)))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _comparison_case(suite: ElementTree.Element, verdict: GateVerdict, row: ComparisonVerdict) -> None:
    case = _case(suite, verdict, row.label)
    if row.outcome == "FAIL":
        _complain(case, "failure", row.outcome, row.sentence)
    elif row.outcome != "PASS":
        _complain(case, "error", row.outcome, row.sentence)
    ElementTree.SubElement(case, "system-out").text = _clean(f"{row.sentence}\n{row.method}\n{row.note}".strip())


def _case(suite: ElementTree.Element, verdict: GateVerdict, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=f"gate.{verdict.gate}", name=_clean(name))


def _complain(case: ElementTree.Element, tag: str, kind: str, text: str) -> None:
    element = ElementTree.SubElement(case, tag, type=kind, message=_clean(text.splitlines()[0]))
    element.text = _clean(text)


def _clean(text: str) -> str:
    """Text without the control characters that XML 1.0 has no way to write."""
    return NOT_IN_XML.sub("?", text)
