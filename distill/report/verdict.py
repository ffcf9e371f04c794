"""What a gate said, in plain words on top of a report, and in numbers below.

    banner(run); comparisons(run)

Not covered: deciding (`distill/gate/`).
"""

from __future__ import annotations

from html import escape
from typing import Any

from distill.report.page import again, missing, paragraph, table
from distill.report.run_data import RunData

HEADLINES = {
    "PASS": "The student passes.",
    "FAIL": "The student does not pass.",
    "INCONCLUSIVE": "The samples do not say whether the student is good enough.",
    "INVALID": "This run may not be judged.",
}
TONES = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "unsure", "INVALID": "unsure"}


def banner(run: RunData) -> str:
    """The verdict in plain words."""
    found = run.verdict
    if found is None:
        return (
            '<div class="verdict" style="--tone:var(--muted)"><p class="headline">Not judged yet. The gate says '
            f"whether the student is good enough:</p>{again(run.command('gate'))}</div>"
        )
    outcome = str(found["outcome"])
    sentences = [plain_words(row) for row in found["comparisons"]] or [str(reason) for reason in found["reasons"]]
    points = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return (
        f'<div class="verdict" style="--tone:var(--{TONES.get(outcome, "unsure")})"><p class="headline">'
        f'<b class="outcome">{escape(outcome)}</b> {escape(HEADLINES.get(outcome, ""))}</p><ul>{points}</ul></div>'
    )


def plain_words(row: dict[str, Any]) -> str:
    """One comparison for people who do not read p-values."""
    if row.get("lower_bound") is None:
        return _sequential_words(row)
    student, needed, sure = row["student"], row["needed"], 1 - row["alpha"]
    solved = f"it solves {student:.1%}, and {needed:.1%} were needed"
    if row["outcome"] == "PASS":
        lead = _points(row["lower_bound"])
        return f"{row['label']}: yes; {solved}. With {sure:.0%} confidence it is {lead} above that or more."
    if row["outcome"] == "FAIL":
        lead = _points(-row["upper_bound"])
        return f"{row['label']}: no; {solved}. With {sure:.0%} confidence it is {lead} below that or more."
    low, high = f"{100 * row['lower_bound']:+.1f}", f"{100 * row['upper_bound']:+.1f}"
    return f"{row['label']}: cannot be told; {solved}. The true lead may be anywhere from {low} to {high} points."


def _sequential_words(row: dict[str, Any]) -> str:
    rounds = f"{row['rounds']} round{'' if row['rounds'] == 1 else 's'}"
    if row.get("metric") == "mean_tokens":
        found = f"it writes {row['student']:.0f} tokens, and at most {row['needed']:.0f} were asked for"
    else:
        found = f"it solves {row['student']:.1%}, and {row['needed']:.1%} were needed"
    if row["outcome"] == "PASS":
        return f"{row['label']}: yes; {found}. Sure after {rounds} (a wrong yes has a chance of {row['alpha']:.1%})."
    if row["outcome"] == "FAIL":
        chance = row.get("alpha_fail") or row["alpha"]
        return f"{row['label']}: no; {found}. Sure after {rounds} (a wrong no has a chance of {chance:.1%})."
    more = row.get("rounds_to_decision")
    further = f" About {more} more rounds would tell." if more else ""
    return f"{row['label']}: cannot be told after {rounds}; {found}.{further}"


def _points(difference: float) -> str:
    return f"{100 * max(difference, 0.0):.1f} points"


def comparisons(run: RunData) -> str:
    """The gate's figures."""
    found = run.verdict
    if found is None:
        return missing("The gate has not judged this run yet.", run.command("gate"))
    k, items = found.get("samples_per_item"), found.get("n_items")
    text = f"Gate {found['gate']} on {', '.join(found.get('tasks', []))}: {items} items, {k} samples an item."
    parts = [paragraph(text)]
    if found["comparisons"]:
        columns = ("demand", "outcome", "student", "needed", "lead", "bounds or rounds", "p to pass", "p to fail")
        parts.append(table(columns, [_cells(row) for row in found["comparisons"]]))
        methods = dict.fromkeys(str(row["method"]) for row in found["comparisons"])
        alphas = ", ".join(dict.fromkeys(f"{row['alpha']:g}" for row in found["comparisons"]))
        text = f"One-sided, alpha {alphas}; method: {'; '.join(methods)}."
        parts.append(paragraph(text, "small"))
        parts += [paragraph(row["note"], "small") for row in found["comparisons"] if row.get("note")]
    else:
        parts.append("<ul>" + "".join(f"<li>{escape(str(reason))}</li>" for reason in found["reasons"]) + "</ul>")
    return "".join(parts) + again(run.command("gate"))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    figure = "{:.0f}" if row.get("metric") == "mean_tokens" else "{:.3f}"
    bounds = f"{row.get('rounds')} of {row.get('cap_rounds')}"
    if row.get("lower_bound") is not None:
        bounds = f"{row['lower_bound']:+.3f} to {row['upper_bound']:+.3f}"
    return (
        str(row["label"]),
        str(row["outcome"]),
        *(figure.format(row[name]) for name in ("student", "needed")),
        figure.replace(":", ":+").format(row["estimate"]),
        bounds,
        f"{row['p_value']:.2g}",
        f"{row['p_value_fail']:.2g}",
    )
