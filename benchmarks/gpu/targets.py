"""The targets of this part of the project, judged from a result file alone: pass, miss, or not measured.

FP8 is the recipe `fast`; the other side is the faster (for memory: the smaller) of recipe `bf16` and the stock model.
A student that was measured in two slices is put together from them, linearly in the number of layers; `basis` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.gpu.quantize import QUANTISERS
from benchmarks.gpu.shapes import STUDENTS, TOYS

MOST_STEP_RATIO = {"1.5B": 0.81, "7B": 0.72}
MOST_ACTIVATION_RATIO = 0.5
LEAST_SHARE_OF_COPY = 0.85
SIDES = ("bf16", "stock")
Value = Callable[[dict[str, Any]], float | None]


def judge(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target with what was found."""
    found = []
    for name, limit in MOST_STEP_RATIO.items():
        found.append(_target(f"step time of {name} at 16k, FP8 / BF16", limit, *ratio(data, name, step_ms)))
    for name in MOST_STEP_RATIO:
        what = f"activation memory of {name} at 16k, FP8 / BF16"
        found.append(_target(what, MOST_ACTIVATION_RATIO, *ratio(data, name, activation_bytes)))
    rows = data["parts"].get("quantize", {}).get("rows", [])
    shares = {row["kernel"]: row["share_of_copy"] for row in rows if row["student"] == "7B"}
    whole = all(name in shares for name in QUANTISERS)
    share = min(shares[name] for name in QUANTISERS) if whole else None
    basis = f"lowest of {', '.join(QUANTISERS)} at 7B's sizes, against a copy of as many bytes"
    found.append(_target("quantise bandwidth / copy bandwidth", LEAST_SHARE_OF_COPY, share, basis, at_least=True))
    return found


def step_ms(row: dict[str, Any]) -> float | None:
    """One micro-batch and an optimizer step."""
    value: float | None = row.get("step_milliseconds", {}).get("median")
    return value


def step_of_8_ms(row: dict[str, Any]) -> float | None:
    """Put together: eight micro-batches and one optimizer step."""
    if "step_milliseconds" not in row:
        return None
    micro = row["forward_milliseconds"]["median"] + row["backward_milliseconds"]["median"]
    return float(8 * micro + row["optimizer_milliseconds"]["median"])


def activation_bytes(row: dict[str, Any]) -> float | None:
    value: float | None = row.get("activation_bytes")
    return value


def ratio(data: dict[str, Any], student: str, value: Value) -> tuple[float | None, str]:
    """FP8 / BF16 of a student at the middle row length without recomputation, and what that rests on."""
    fast, basis = whole_student(data, student, "fast", value)
    others = {side: whole_student(data, student, side, value)[0] for side in SIDES}
    known = {side: other for side, other in others.items() if other is not None}
    if fast is None or not known:
        return None, basis
    best = min(known, key=known.__getitem__)
    return fast / known[best], f"{basis}; BF16 is '{best}'"


def whole_student(data: dict[str, Any], student: str, variant: str, value: Value) -> tuple[float | None, str]:
    """A figure of the whole student: measured, or put together from two slices."""
    tokens, recompute = data["row_tokens"][1], False
    rows = [
        row
        for row in data["parts"].get(f"step-{student}", {}).get("rows", [])
        if (row["variant"], row["tokens"], row["recompute"]) == (variant, tokens, recompute) and value(row) is not None
    ]
    if any(row["whole"] for row in rows):
        return value(next(row for row in rows if row["whole"])), "measured whole"
    if len(rows) < 2:
        return None, "not measured"
    shallow, deep = sorted(rows, key=lambda row: row["layers"])[:: len(rows) - 1]
    layers = (TOYS if data["toy"] else STUDENTS)[student].layers
    low, high = value(shallow), value(deep)
    assert low is not None and high is not None
    slope = (high - low) / (deep["layers"] - shallow["layers"])
    basis = f"{layers} layers put together from slices of {shallow['layers']} and {deep['layers']}"
    return low + slope * (layers - shallow["layers"]), basis


def _target(what: str, limit: float, value: float | None, basis: str, at_least: bool = False) -> dict[str, Any]:
    result = "not measured"
    if value is not None:
        result = "pass" if (value >= limit if at_least else value <= limit) else "miss"
    return {
        "target": what,
        "limit": f"{'at least' if at_least else 'at most'} {limit}",
        "value": value,
        "result": result,
        "basis": basis,
    }
