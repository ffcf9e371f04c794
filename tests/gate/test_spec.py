"""pytest tests/gate/test_spec.py"""

import pytest

from distill import catalog
from distill.errors import CatalogError, ConfigError, GateError
from distill.gate.spec import Gate, load_gate

GOOD = """kind: gate
name: mine
description: d
tasks: [tiny]
comparisons:
  - {against: teacher, ratio: 0.85}
"""


@pytest.mark.parametrize("name", catalog.names("gates"))
def test_every_shipped_gate_reads_and_its_tasks_exist(name):
    gate = load_gate(name)
    assert gate.name == name and all(catalog.find("tasks", task) for task in gate.tasks)


def test_quickstart_demands_what_the_readme_says():
    gate = load_gate("quickstart")
    assert [row.label for row in gate.comparisons] == ["student >= 0.85 x teacher", "student >= 3 x base"]
    assert gate.needs == ["base", "teacher"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("ratio: 0.85", "ration: 0.85"), "did you mean 'ratio'"),
        (GOOD.replace("against: teacher", "against: techer"), "did you mean 'teacher'"),
        (GOOD.replace("{against: teacher, ratio: 0.85}", "{against: constant}"), "needs 'minimum'"),
        (GOOD.replace("{against: teacher, ratio: 0.85}", "{against: baseline}"), "needs 'baseline'"),
        (GOOD.replace("ratio: 0.85", "minimum: 0.5"), "'minimum' has no meaning against teacher"),
        (GOOD.replace("ratio: 0.85", "ratio: 0"), "above 0"),
        (GOOD.replace("ratio: 0.85", "alpha: 0.5"), "below 0.5"),
        (GOOD.replace("ratio: 0.85", "method: exact, alpha_fail: 0.1"), "of method sequential"),
        (GOOD.replace("ratio: 0.85", "method: exact, fails_below: reference"), "of method sequential"),
        (GOOD.replace("ratio: 0.85", "method: exact, metric: mean_tokens"), "needs method: sequential"),
        (GOOD.replace("against: teacher", "against: checkpoint, method: exact"), "needs method: sequential"),
        (GOOD.replace("ratio: 0.85}", "ratio: 0.85}\n  - {against: base, method: exact}"), "beside"),
        (GOOD.replace("against: teacher, ratio: 0.85", "against: constant, maximum: 9"), "needs 'minimum'"),
        (GOOD.replace("ratio: 0.85", "metric: tokens"), "metric"),
        (GOOD + "budget: {max_rounds: 0}\n", "max_rounds"),
        (GOOD + "metric: cons@k\n", "metric"),
        (GOOD + "validity: {max_truncation_rate: 2.0}\n", "at most 1"),
    ],
)
def test_a_wrong_gate_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_gate(path)


def test_a_gate_made_in_code_equals_its_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD)
    made = Gate(
        kind="gate", name="mine", description="d", tasks=["tiny"], comparisons=[{"against": "teacher", "ratio": 0.85}]
    )
    assert load_gate(tmp_path / "mine.yaml").model_dump() == made.model_dump()


def test_unknown_gate_gets_the_nearest_name():
    with pytest.raises(CatalogError, match="did you mean 'quickstart'"):
        load_gate("quikstart")


def sequential_gate(*comparisons, **fields):
    rows = [{"method": "sequential", **row} for row in comparisons]
    return Gate(kind="gate", name="mine", description="d", tasks=["tiny"], comparisons=rows, **fields)


def test_a_sequential_comparison_as_bars():
    gate = sequential_gate(
        {"against": "baseline", "baseline": "o1-mini", "margin": 0.03, "alpha": 0.02, "alpha_fail": 0.1},
        {"against": "checkpoint", "margin": 0.05, "fails_below": "reference"},
        estimand="benchmark",
        budget={"max_rounds": 16, "final_share": 0.0},
    )
    assert gate.needs == ["checkpoint"]
    first, second = (gate.demand(row, 64, published=0.636, num_questions=2) for row in gate.comparisons)
    assert (first.pass_bar, first.fail_bar) == (pytest.approx(0.606), pytest.approx(0.606))
    assert (first.alpha_pass, first.alpha_fail) == (0.02, 0.05)  # one of two that may fail the gate: half each
    assert (first.cap_rounds, first.final_share, first.estimand) == (16, 0.0, "benchmark")
    assert (second.pass_bar, second.fail_bar, second.lowest, second.highest) == (-0.05, 0.0, -1.0, 1.0)
    assert (second.alpha_pass, second.alpha_fail) == (0.05, 0.025)


def test_ratio_and_constant_as_bars():
    gate = sequential_gate({"against": "teacher", "ratio": 0.8}, {"against": "constant", "minimum": 0.5})
    assert gate.demand(gate.comparisons[0], 64, num_questions=2).lowest == pytest.approx(-0.8)
    assert gate.demand(gate.comparisons[1], 64, num_questions=2).pass_bar == 0.5
    loose = sequential_gate({"against": "baseline", "baseline": "b", "margin": 0.3})
    with pytest.raises(GateError, match="known without a sample"):
        loose.demand(loose.comparisons[0], 64, published=0.2, num_questions=1)


def test_fewer_tokens_as_bars():
    gate = sequential_gate(
        {"against": "teacher", "ratio": 1.2, "margin": 10},
        {"against": "constant", "maximum": 900},
        metric="mean_tokens",
    )
    paired, constant = (gate.demand(row, 1000, num_questions=2) for row in gate.comparisons)
    assert gate.comparisons[0].label == "student <= 1.2 x teacher + 10 (mean_tokens)"
    assert (paired.direction, paired.lowest, paired.highest, paired.pass_bar) == ("lower", -1200, 1000, 10)
    assert (constant.direction, constant.pass_bar, constant.unit(0.0)) == ("lower", 900, 1.0)


def test_settings_of_a_gate_change_by_name(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD)
    gate = load_gate(tmp_path / "mine.yaml", overrides=["gate.budget.max_rounds=3", "data.tiny=x"])
    assert gate.budget.max_rounds == 3
    with pytest.raises(ConfigError, match="did you mean 'max_rounds'"):
        load_gate(tmp_path / "mine.yaml", overrides=["gate.budget.max_round=3"])
