"""The tables in docs/harvest-adaptive.md, from benchmarks/adaptive_harvest.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "harvest-adaptive.md"
BEGIN, END = "<!-- adaptive harvest: begin -->", "<!-- adaptive harvest: end -->"
TARGET = 0.5
SIDES = ("adaptive", "hopeless stop", "more if rare", "ladder, continued", "ladder, drawn anew")


def tables(result: dict[str, Any]) -> str:
    """Markdown."""
    recorded = result["recorded"]
    lines = [
        "Tokens per kept trace, adaptive over fixed, at the same traces and problems (95 % bootstrap interval):",
        "",
    ]
    limits = list(result["compared"]["math"])
    lines += ["| N, k | " + " | ".join(result["compared"]) + " |", "|---" * (len(result["compared"]) + 1) + "|"]
    for limit in limits:
        cells = [_ratio(sides.get(limit)) for sides in result["compared"].values()]
        lines.append(f"| {limit} | " + " | ".join(cells) + " |")
    replayed, drawn = recorded["replayed"], recorded["from_nothing"]
    lines += [
        "",
        f"{result['simulated_problems']:,} simulated problems each; {len(recorded['problems'])} recorded ones of the "
        f"embedded teacher. At 8, 2 `distill harvest` on a copy of the recorded ledger found all "
        f"{replayed['samples_from_ledger']:,} of its {replayed['samples']:,} samples there ({_yield(replayed)}); drawn "
        f"from nothing it came to {_yield(drawn)}.",
        "",
        "The variants at 16, 4 (ratio; change of problems covered; change of traces kept):",
        "",
        "| population | " + " | ".join(SIDES) + " |",
        "|---" * (len(SIDES) + 1) + "|",
    ]
    for name, found in result["compared"].items():
        lines.append(f"| {name} | " + " | ".join(_with_changes(found["16, 4"].get(side)) for side in SIDES) + " |")
    lines += ["", "The hopeless stop by `hopeless_below` (ratio to fixed; change of problems covered):", ""]
    rates = list(result["hopeless"]["math"]["16, 2"])
    lines += ["| N, k | population | " + " | ".join(rates) + " |"]
    lines += ["|---" * (len(rates) + 2) + "|"]
    for limit in ("16, 2", "64, 4"):
        for name, found in result["hopeless"].items():
            if limit in found:
                cells = [
                    f"{found[limit][rate]['ratio']:.2f}; {_change(found[limit][rate]['covered_change'])}"
                    for rate in rates
                ]
                lines.append(f"| {limit} | {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "How often the 90 % interval of the pass rate held it, at 16, 2 (mean width; root mean square error):",
        "",
    ]
    lines += ["| population | prior (0.5, 0.5) | fitted to the first problems |", "|---|---|---|"]
    for name, found in result["calibration"].items():
        prior = ", ".join(f"{value:g}" for value in found["fitted"]["prior"])
        lines.append(f"| {name} | {_held(found['default'])} | {_held(found['fitted'])}, prior ({prior}) |")
    return "\n".join(lines)


def _ratio(sides: dict[str, Any] | None) -> str:
    if sides is None:
        return ""
    found = sides["adaptive"]
    text = f"{found['ratio']:.2f}"
    return (
        f"{f'**{text}**' if found['ratio'] <= TARGET else text} ({found['ratio_95'][0]:.2f}-{found['ratio_95'][1]:.2f})"
    )


def _with_changes(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['ratio']:.2f}; {_change(found['covered_change'])}; {_change(found['kept_change'])}"


def _change(value: float) -> str:
    return f"{value:+.1%}" if abs(value) >= 0.0005 else "0"


def _yield(found: dict[str, Any]) -> str:
    tokens, traces, problems = found["completion_tokens"], found["accepted"], found["problems_covered"]
    return f"{tokens:,} tokens for {traces} traces of {problems} problems"


def _held(found: dict[str, float]) -> str:
    return f"{found['held']:.1%} ({found['mean_width']:.2f}; {found['root_mean_square_error']:.3f})"


def write_page(result: dict[str, Any]) -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(result)}\n{END}{rest.split(END)[1]}")
