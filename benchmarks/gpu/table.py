"""The Markdown table of a result file, made from its JSON and nothing else.

    python -m benchmarks.gpu.table benchmarks/gpu/nvidia-h200.json

A cell that was not measured is empty, or says why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu import targets
from benchmarks.gpu.products import rate, skinny_from

GIB = 2**30


def table(data: dict[str, Any]) -> str:
    """The whole page."""
    parts = data["parts"]
    sections = [
        _head(data),
        _targets(data),
        _correctness(parts),
        _steps(data),
        _layers(parts, "layer", "One decoder layer, forward and backward"),
        _layers(parts, "compiled", "One decoder layer under torch.compile"),
        _products(data),
        _quantise(parts),
        _attention(parts),
        _notes(parts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def grid(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; nothing without rows."""
    if not rows:
        return ""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(data: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in data["versions"].items() if value)
    clocks = data.get("clocks_after") or data["clocks_before"]
    lines = [
        f"# FP8 training on {data['device']}",
        "Made by `bash scripts/bench_gpu.sh` from the JSON file beside it; how each figure is taken is at the top of "
        "the file in `benchmarks/gpu/` that takes it.",
        f"{data['date']}, commit {data['commit'] or 'unknown'}, sources {data['sources_sha256'][:12]}; {versions}",
    ]
    if clocks:
        lines.append("nvidia-smi: " + ", ".join(f"{name} {value}" for name, value in clocks.items()))
    if data["toy"]:
        lines.insert(1, "**A toy run on a CPU: no number below means anything.**")
    if data["failures"]:
        lines.append("**Failed:** " + "; ".join(data["failures"]))
    return "\n\n".join(lines)


def closing(data: dict[str, Any]) -> str:
    """What a reader wants who sees the end of the output only."""
    return f"{_targets(data)}\n\n{skinny_line(data)}"


def skinny_line(data: dict[str, Any]) -> str:
    """SKINNY_BELOW as the measured rates have it; nothing where they are not there."""
    skinny = skinny_from(data)
    if skinny is None:
        return ""
    below = "no size: FP8 is not faster" if skinny["skinny_below"] is None else f"{skinny['skinny_below']:.0f}"
    return (
        f"SKINNY_BELOW that follows: {below} (shipped: {skinny['shipped']}), from BF16 {skinny['bf16_tflops']:.0f} and "
        f"{skinny['fp8_backend']} {skinny['fp8_tflops']:.0f} TFLOP/s, quantising at "
        f"{skinny['quantise_terabytes_per_second']:.2f} TB/s."
    )


def _targets(data: dict[str, Any]) -> str:
    rows = [
        [target["target"], target["limit"], _number(target["value"], 3), f"**{target['result']}**", target["basis"]]
        for target in data["targets"]
    ]
    return "## Targets\n\n" + grid(["target", "limit", "found", "result", "basis"], rows)


def _correctness(parts: dict[str, Any]) -> str:
    rows = [
        [row["check"].replace("_", " "), "passed" if row["passed"] else "**FAILED**", row["detail"].replace("|", "/")]
        for row in parts.get("correctness", {}).get("rows", [])
    ]
    return _section("Correctness on the device", grid(["check", "result", "found"], rows))


def _steps(data: dict[str, Any]) -> str:
    rows = []
    for name, part in data["parts"].items():
        if name.startswith("step-"):
            rows += [_step(row, part["rows"]) for row in part["rows"]]
    titles = ["student", "layers", "tokens", "recompute", "variant", "step ms (middle 80 %)", "x BF16", "tokens/s"]
    titles += ["MFU", "peak GiB", "activations GiB", "working GiB", "loss"]
    text = (
        "One micro-batch and AdamW; `stock` is transformers under autocast; x BF16 is against the faster of `bf16` and "
        "`stock` in the same row length and mode. MFU counts 6 N T + 6 layers width sum(L^2) and no recomputation."
    )
    return _section("Training steps", grid(titles, rows), text, _whole(data))


def _step(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    facts = [row["student"], f"{row['layers']}{'' if row['whole'] else ' (slice)'}", str(row["tokens"])]
    facts += ["yes" if row["recompute"] else "no", row["variant"]]
    if "left_out" in row:
        return [*facts, row["left_out"], *[""] * 7]
    key = ("student", "layers", "tokens", "recompute")
    others = [
        other["step_milliseconds"]["median"]
        for other in rows
        if other["variant"] in targets.SIDES
        and "step_milliseconds" in other
        and all(other[name] == row[name] for name in key)
    ]
    against = row["step_milliseconds"]["median"] / min(others) if others else None
    memory = [row["peak_bytes"], row["activation_bytes"], row["working_bytes"]]
    return [
        *facts,
        _spread(row["step_milliseconds"]),
        _number(against, 2),
        f"{row['tokens_per_second']:,.0f}",
        "" if row["mfu"] is None else f"{row['mfu']:.1%}",
        *("" if value is None else f"{value / GIB:.1f}" for value in memory),
        f"{row['loss']:.4f}",
    ]


def _whole(data: dict[str, Any]) -> str:
    """FP8 / BF16 of whole students, per optimizer step of one and of eight micro-batches."""
    rows = []
    for name in (part.removeprefix("step-") for part in data["parts"] if part.startswith("step-")):
        one, basis = targets.ratio(data, name, targets.step_ms)
        eight, _ = targets.ratio(data, name, targets.step_of_8_ms)
        memory, _ = targets.ratio(data, name, targets.activation_bytes)
        if one is not None:
            rows.append([name, _number(one, 3), _number(eight, 3), _number(memory, 3), basis])
    titles = ["student, FP8 / BF16 at 16k", "step", "step of 8 micro-batches", "activations", "basis"]
    return grid(titles, rows)


def _layers(parts: dict[str, Any], part: str, title: str) -> str:
    rows = [
        [row["student"], str(row["tokens"]), row["variant"]]
        + (
            [row["left_out"].replace("|", "/"), ""]
            if "left_out" in row
            else [_spread(row["forward_milliseconds"]), _spread(row["milliseconds"])]
        )
        for row in parts.get(part, {}).get("rows", [])
    ]
    return _section(title, grid(["student", "tokens", "variant", "forward ms", "forward and backward ms"], rows))


def _products(data: dict[str, Any]) -> str:
    rows = data["parts"].get("products", {}).get("rows", [])
    names = list(dict.fromkeys(name for row in rows for name in row["tflops"]))
    lines = [
        [row["student"], row["linear"], row["kind"], f"{row['rows']} x {row['columns']} x {row['inner']}"]
        + [_number(row["tflops"].get(name), 0) for name in names]
        for row in rows
    ]
    if lines:
        lines.append(["all", "", "", ""] + [_number(rate(rows, name), 0) for name in names])
    titles = ["student", "linear", "product", "rows x columns x inner", *names]
    return _section("Products, TFLOP/s", grid(titles, lines), skinny_line(data))


def _quantise(parts: dict[str, Any]) -> str:
    rows = [
        [
            row["student"],
            row["kernel"],
            f"{row['bytes'] / 1e6:.0f}",
            _spread(row["milliseconds"], 4),
            f"{row['terabytes_per_second']:.2f}",
            f"{row['copy_terabytes_per_second']:.2f}",
            f"{row['share_of_copy']:.0%}",
        ]
        for row in parts.get("quantize", {}).get("rows", [])
    ]
    titles = ["student", "kernel", "MB moved", "ms", "TB/s", "copy TB/s", "share"]
    return _section("Quantising, against a copy of as many bytes", grid(titles, rows))


def _attention(parts: dict[str, Any]) -> str:
    part = parts.get("attention", {})
    rows = [
        [
            row["attention"],
            f"{row['relative_error']:.1e}" if "relative_error" in row else "",
            row["refused"].replace("|", "/") if "refused" in row else _spread(row["milliseconds"]),
        ]
        for row in part.get("rows", [])
    ]
    text = f"Used on every side: `{part.get('chosen')}`." if rows else ""
    titles = ["attention", "error", "forward and backward ms"]
    return _section("Attention over packed documents", grid(titles, rows), text)


def _notes(parts: dict[str, Any]) -> str:
    lines = [f"- {name}: {note}" for name, part in parts.items() for note in part["notes"]]
    lines += [f"- {name}: broke off before its end" for name, part in parts.items() if not part["complete"]]
    return _section("Notes", "\n".join(lines))


def _section(title: str, *texts: str) -> str:
    texts = tuple(text for text in texts if text)
    return "\n\n".join((f"## {title}", *texts)) if texts else ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _spread(times: dict[str, float], digits: int = 2) -> str:
    return f"{times['median']:.{digits}f} ({times['least']:.{digits}f}-{times['most']:.{digits}f})"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
