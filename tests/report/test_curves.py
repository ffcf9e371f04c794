"""pytest tests/report/test_curves.py"""

import json
import re
from xml.etree import ElementTree

import pytest

from distill.evaluate.curves import BudgetPoint, curves_command, curves_of_all, with_force_closed
from distill.report.curves import CurvesView, budget_plot, curve_table, size_plot
from distill.report.html import render
from distill.report.run_data import load_run


@pytest.fixture(scope="module")
def results(built_run):
    return load_run(built_run).results


@pytest.fixture(scope="module")
def models(results):
    return curves_of_all(results)["models"]


def shapes(svg, tag):
    return [each for each in ElementTree.fromstring(svg).iter() if each.tag.endswith(tag)]


def test_plots_have_a_line_a_model_and_say_their_values(models):
    budget = budget_plot(models, "tiny")
    lines = [each.get("class") for each in shapes(budget, "polyline")]
    for role in ("base", "student", "teacher"):
        assert lines.count(f"curve stroke-{role}") == 2  # legend and curve
        last = models[role]["tasks"]["tiny"]["cut"][-1]
        assert f"{role}, cut at {last['budget']}: {last['accuracy']:.1%}" in budget
    sizes = size_plot(models, "tiny")
    assert sizes.count("curve stroke-student dashed") == 2 and "student, cons@k at 2" in sizes


def test_points_lie_where_their_values_are(models):
    """The accuracy at the highest budget is the height of the last point."""
    one = {"student": models["student"]}
    (*_, curve) = shapes(budget_plot(one, "tiny"), "polyline")
    _, y = map(float, curve.get("points").split()[-1].split(","))
    accuracy = models["student"]["tasks"]["tiny"]["cut"][-1]["accuracy"]
    assert y == pytest.approx(270 - (270 - 52) * accuracy, abs=0.02)
    xs = [float(pair.split(",")[0]) for pair in curve.get("points").split()]
    assert xs == sorted(xs) and xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)  # doubling is a step


def test_closed_thoughts_are_dashed(models):
    forced = with_force_closed(models["student"], "tiny", [BudgetPoint(16, 0.25, (0.1, 0.4), None, 0.5, 12.0)])
    svg = budget_plot({"student": forced}, "tiny")
    assert svg.count("curve stroke-student dashed") == 2 and "student, thought closed at 16: 25.0%" in svg
    assert "unknown" in curve_table({"student": forced}, "tiny")


def test_one_point_and_strange_names_are_drawn_and_escaped(models):
    curves = {"<b>mine": models["student"], "base": models["base"]}
    svg = budget_plot(curves, "tiny")
    assert "<b>mine" not in svg and "&lt;b&gt;mine, cut" in svg and "stroke-kept" in svg
    single = json.loads(json.dumps(models["student"]))
    single["tasks"]["tiny"]["cut"] = single["tasks"]["tiny"]["cut"][:1]
    assert "nan" not in budget_plot({"student": single}, "tiny")
    with pytest.raises(ValueError, match="there is no curve to draw"):
        budget_plot({}, "tiny")


def test_the_report_shows_curves_once_there_is_an_evaluation(run_directory):
    page = render(load_run(run_directory))
    assert '<section id="curves">' in page and "pass@k and cons@k on tiny" in page
    assert "compared as text" in page  # the run of these tests has no answer classes
    for path in (run_directory / "eval").glob("*.json"):
        path.unlink()
    assert '<section id="curves">' not in render(load_run(run_directory))


def test_the_report_takes_closed_thoughts_from_the_curves_file(run_directory):
    assert "thought closed" not in render(load_run(run_directory))
    curves = curves_command(run_directory)
    student = with_force_closed(
        curves["models"]["student"], "tiny", [BudgetPoint(16, 0.25, (0.1, 0.4), None, 0.5, 12.0)]
    )
    curves["models"]["student"] = student
    (run_directory / "eval" / "curves.json").write_text(json.dumps(curves))
    page = render(load_run(run_directory))
    assert "student, thought closed" in page and "Dashed: thoughts closed at the budget" in page


def test_a_notebook_shows_plots_and_numbers(results, run_directory):
    shown = CurvesView.of(results)._repr_html_()
    assert shown.count("<svg") == 2 and re.search(r"<td class=words>pass@k</td><td>2</td>", shown)
    assert CurvesView.of(results["student"])._repr_html_().count("student, cut") > 0
    curves_command(run_directory)
    assert CurvesView.load(run_directory / "eval" / "curves.json")._repr_html_() == shown
