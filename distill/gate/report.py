"""Writes a verdict for those who read it: verdict.json for programs, junit.xml for CI, summary.md for people.

    write_verdict(verdict, run_directory / "gate")

On GitHub Actions the summary is also appended to the step's summary ($GITHUB_STEP_SUMMARY), cut to what GitHub takes.
JUnit: one test case for the run's validity and one a comparison; FAIL is a failure, INCONCLUSIVE and INVALID are
errors (then no comparison counts): none of them is green.
Not covered: the HTML report of a run (`distill/report/`); a gate that ends without a verdict (`scripts/ci/gate.sh`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from distill.errors import InfrastructureError
from distill.gate.verdict import COLUMNS, ComparisonVerdict, GateVerdict, cells

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
STEP_SUMMARY_BYTES = 1024 * 1024
"""GitHub drops a step's whole summary where it is larger (docs.github.com, workflow commands, adding a job summary)."""
CUT = "\nThe rest is left out here; the whole is in gate/summary.md.\n"
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MARKDOWN = str.maketrans({"\\": "\\\\", "|": "\\|", "&": "&amp;", "<": "&lt;", "\n": " ", "\r": " "})


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
            with open(step_summary, "ab") as stream:
                stream.write(cut(files["summary.md"] + "\n", STEP_SUMMARY_BYTES - stream.tell()))
    except OSError as error:
        raise InfrastructureError(
            f"gate: the verdict ({verdict.outcome}) cannot be written to {error.filename}: {error.strerror}."
        ) from error


def cut(text: str, room_bytes: int) -> bytes:
    """The text as UTF-8, or its first whole lines and a word on the rest, where there is less room."""
    whole = text.encode()
    if len(whole) <= room_bytes:
        return whole
    notice = CUT.encode()
    kept = whole[: max(0, room_bytes - len(notice))]
    return kept[: kept.rfind(b"\n") + 1] + notice if b"\n" in kept else b""


def summary(verdict: GateVerdict) -> str:
    """The verdict as Markdown: outcome, one row a comparison, validity, how it was measured, what it used."""
    lines = [f"## Gate {_plain(verdict.gate)}: {verdict.outcome}", ""]
    if verdict.outcome == "INVALID":
        lines += ["The run may not be judged:", "", *_bullets(verdict.reasons), ""]
    else:
        lines += [*_table(COLUMNS, map(cells, verdict.comparisons)), "", "Validity: no check failed.", ""]
    lines += [_plain(_measured(verdict)), ""]
    lines += [*_bullets([*_more(verdict), *(row.note for row in verdict.comparisons if row.note), *verdict.notes]), ""]
    lines += [*_anchors(verdict), "", *_used(verdict)]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _measured(verdict: GateVerdict) -> str:
    """How the verdict was come by, in a sentence."""
    where = f"{verdict.n_items} items of {', '.join(verdict.tasks)}, {verdict.samples_per_item} samples an item"
    text = f"{verdict.student_model}: {where}; estimand: {verdict.estimand}"
    if verdict.outcome != "INVALID":
        text += "".join(f"; {method}" for method in dict.fromkeys(row.method for row in verdict.comparisons))
    stopped = "" if verdict.stopped_by is None else f" Stopped by: {verdict.stopped_by}."
    is_spent = any(row.final_test == "spent" for row in verdict.comparisons)
    spent = " The final test at the cap is spent; more rounds add betting evidence alone." if is_spent else ""
    return f"{text}. Each bound and p is one-sided, at its alpha.{stopped}{spent}"


def _more(verdict: GateVerdict) -> list[str]:
    """What a further run would have to add."""
    return [
        f"{row.label}: about {row.rounds_to_decision} more rounds would decide, if the score so far is the true one."
        for row in verdict.comparisons
        if row.rounds_to_decision and verdict.outcome != "INVALID"
    ]


def _anchors(verdict: GateVerdict) -> list[str]:
    columns = ("baseline", "model", "task", "rounds", "measured", "published", "distance")
    rows = [
        [
            *(row[name] for name in columns[:4]),
            *(f"{row[name]:.3f}" for name in columns[4:6]),
            f"{row['distance']:+.3f}",
        ]
        for row in verdict.anchors
    ]
    return ["What this harness makes of models with a published row:", "", *_table(columns, rows)] if rows else []


def _used(verdict: GateVerdict) -> list[str]:
    """Tokens by model; `drawn now` is of a gate that draws its own rounds."""
    rows = [
        [who, used["model"], used["rounds"], used["completion_tokens"], used.get("completion_tokens_drawn", "-")]
        for who, used in verdict.models.items()
    ]
    return _table(("role", "model", "rounds", "completion tokens", "drawn now"), rows) if rows else []


def _bullets(texts: Iterable[str]) -> list[str]:
    return [f"- {_plain(text)}" for text in texts]


def _table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    header = list(columns)
    lines: list[Iterable[object]] = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(value: object) -> str:
    """Text that Markdown and HTML show as it is, on one line, in a table too."""
    return _clean(str(value)).translate(MARKDOWN)


def junit(verdict: GateVerdict) -> str:
    """The verdict as JUnit XML."""
    suite = ElementTree.Element("testsuite", name=f"gate {_clean(verdict.gate)}")
    _properties(suite, _suite_properties(verdict))
    validity = _case(suite, verdict, "validity")
    if verdict.outcome == "INVALID":
        _complain(validity, "error", "INVALID", "\n".join(verdict.reasons))
    for row in verdict.comparisons:
        _comparison_case(suite, verdict, row)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    for element in (suite, root):
        element.set("tests", str(len(suite.findall("testcase"))))
        for kind in ("failure", "error"):
            element.set(f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite_properties(verdict: GateVerdict) -> dict[str, object]:
    found: dict[str, object] = {
        "outcome": verdict.outcome,
        "student": verdict.student_model,
        "tasks": ", ".join(verdict.tasks),
        "estimand": verdict.estimand,
        "items": verdict.n_items,
        "samples_per_item": verdict.samples_per_item,
        "stopped_by": verdict.stopped_by,
    }
    for who, used in verdict.models.items():
        found |= {f"{name}.{who}": used.get(name) for name in USED_PROPERTIES}
    return found


USED_PROPERTIES = ("rounds", "completion_tokens", "completion_tokens_drawn", "unanswered")
ROW_PROPERTIES = (
    "outcome",
    "metric",
    "student",
    "other",
    "needed",
    "estimate",
    "lower_bound",
    "upper_bound",
    "rounds",
    "cap_rounds",
    "decided_at_round",
    "log_e_pass",
    "log_e_fail",
    "final_test",
    "p_value",
    "p_value_fail",
    "alpha",
    "alpha_fail",
)


def _comparison_case(suite: ElementTree.Element, verdict: GateVerdict, row: ComparisonVerdict) -> None:
    case = _case(suite, verdict, row.label)
    figures = asdict(row)
    _properties(case, {name: figures[name] for name in ROW_PROPERTIES})
    if verdict.outcome == "INVALID":
        ElementTree.SubElement(case, "skipped", message="the run may not be judged")
    elif row.outcome == "FAIL":
        _complain(case, "failure", row.outcome, row.sentence)
    elif row.outcome != "PASS":
        _complain(case, "error", row.outcome, row.sentence)
    ElementTree.SubElement(case, "system-out").text = _clean(f"{row.sentence}\n{row.method}\n{row.note}".strip())


def _properties(element: ElementTree.Element, values: dict[str, object]) -> None:
    """What is known of `values`; a name without a value is left out."""
    parent = ElementTree.SubElement(element, "properties")
    for name, value in values.items():
        if value is not None and value != "":
            ElementTree.SubElement(parent, "property", name=_clean(name), value=_clean(str(value)))


def _case(suite: ElementTree.Element, verdict: GateVerdict, name: str) -> ElementTree.Element:
    classname = f"gate.{_clean(verdict.gate)}"
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_clean(name))


def _complain(case: ElementTree.Element, tag: str, kind: str, text: str) -> None:
    element = ElementTree.SubElement(case, tag, type=kind, message=_clean(text.partition("\n")[0]))
    element.text = _clean(text)


def _clean(text: str) -> str:
    """Text without the control characters that XML 1.0 has no way to write."""
    return NOT_IN_XML.sub("?", text)
