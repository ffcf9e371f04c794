"""The precision receipt: which kernel computed each product of each linear, and how well its operands fitted FP8.

    paper = receipt(model)
    paper.summary()       # two lines for a log
    paper.to_dict()       # for run.json
    paper.check()         # raises where a linear that should train in FP8 did not

Counts are taken where the kernels run (record.py). LlamaFactory#9500, "FP8 training silently falls back to BF16", is
what this is against.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from distill.fp8.convert import Fp8State, group_of, state_of
from distill.fp8.errors import Fp8Error
from distill.fp8.matmul import self_check
from distill.fp8.record import RECORD

OPERANDS = ("input", "weight", "gradient")


@dataclass(slots=True)
class LinearReceipt:
    """One linear, or the linears that share an input and were multiplied as one."""

    kernels: dict[str, dict[str, int]] = field(default_factory=dict)
    """By product (fprop, dgrad, wgrad): kernel -> calls."""
    fallbacks: dict[str, int] = field(default_factory=dict)
    """Why a better kernel was passed over -> calls."""
    operands: dict[str, dict[str, float]] = field(default_factory=dict)
    """By operand (input, weight, gradient): snr_db, underflow_rate, saturation_rate; of observed steps only."""


@dataclass(slots=True)
class Receipt:
    """Of one converted model, up to now."""

    recipe: str
    device: str
    torch: str
    power_of_two: bool
    linears: dict[str, LinearReceipt]
    bf16: dict[str, str]
    """Linears of the decoder layers in BF16 -> reason."""
    converted: int
    num_linears: int
    self_check: dict[str, str | None]
    """Kernels of the device: None, or why one is not used."""
    missing: dict[str, list[str]]
    """FP8 linears that were bypassed: products that should have run and never did."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def kernels(self) -> dict[str, int]:
        """Calls by kernel, over everything."""
        totals: dict[str, int] = {}
        for linear in self.linears.values():
            for calls in linear.kernels.values():
                for kernel, count in calls.items():
                    totals[kernel] = totals.get(kernel, 0) + count
        return totals

    def summary(self) -> str:
        """What ran, and the worst operand, in at most three lines."""
        kernels = ", ".join(f"{count} by {kernel}" for kernel, count in sorted(self.kernels().items())) or "none"
        lines = [
            f"fp8 receipt: recipe {self.recipe} on {self.device}, {self.converted} of {self.num_linears} linears in "
            f"FP8; products: {kernels}; fallbacks: {sum(sum(x.fallbacks.values()) for x in self.linears.values())}"
        ]
        seen = [
            (figures["snr_db"], name, operand, figures["underflow_rate"], figures["saturation_rate"])
            for name, linear in self.linears.items()
            for operand, figures in linear.operands.items()
        ]
        if seen:
            snr, name, operand, underflow, saturation = min(seen)
            lines.append(
                f"  lowest SNR {snr:.1f} dB ({operand} of {name}: {underflow:.2%} to zero, {saturation:.2%} clipped)"
            )
        if self.bf16:
            reasons = sorted(set(self.bf16.values()))
            lines.append(f"  in BF16: {len(self.bf16)} linears ({'; '.join(reasons[:4])})")
        return "\n".join(lines)

    def check(self) -> None:
        """Raises: Fp8Error where a product of an FP8 linear was never computed in FP8, or nothing was."""
        if not self.kernels() and self.converted:
            raise Fp8Error("fp8 receipt: no FP8 product was computed; was the model called through another copy of it?")
        for name, products in self.missing.items():
            raise Fp8Error(
                f"fp8 receipt: {name}: {', '.join(products)} never ran in FP8 ({len(self.missing)} linears in all); "
                "something replaced or bypassed it. Convert the model that is trained, after every other change to it."
            )
        for name, linear in self.linears.items():
            for product in ("fprop", "dgrad"):
                if "bf16" in linear.kernels.get(product, {}):
                    raise Fp8Error(f"fp8 receipt: {name}: {product} ran in BF16, which no recipe asks for.")


def receipt(model: Any) -> Receipt:
    """What ran since the model was converted."""
    state = state_of(model)
    linears = _linears(state)
    return Receipt(
        recipe=state.recipe.name,
        device=state.device,
        torch=torch.__version__,
        power_of_two=state.power_of_two,
        linears=linears,
        bf16=dict(state.bf16),
        converted=len(state.linears) - len(state.bf16),
        num_linears=len(state.linears),
        self_check=dict(self_check(torch.device(state.device))),
        missing=_missing(state, linears),
    )


def _linears(state: Fp8State) -> dict[str, LinearReceipt]:
    prefix = f"{state.prefix}:"
    found: dict[str, LinearReceipt] = {}

    def entry(label: str) -> tuple[LinearReceipt, str]:
        name, _, role = label.removeprefix(prefix).rpartition("/")
        return found.setdefault(name, LinearReceipt()), role

    for label, calls in RECORD.kernels.items():
        if label.startswith(prefix):
            linear, role = entry(label)
            linear.kernels[role] = dict(calls)
    for label, reasons in RECORD.fallbacks.items():
        if label.startswith(prefix):
            linear, role = entry(label)
            for reason, count in reasons.items():
                linear.fallbacks[f"{role}: {reason}"] = count
    for label, statistics in RECORD.statistics.items():
        if label.startswith(prefix) and label.rpartition("/")[2] in OPERANDS:
            linear, role = entry(label)
            linear.operands[role] = statistics.to_dict()
    return dict(sorted(_shared_inputs(state, found).items()))


def _shared_inputs(state: Fp8State, found: dict[str, LinearReceipt]) -> dict[str, LinearReceipt]:
    """An input that linears share but were multiplied with one by one: its figures go to each of them."""
    for name in [name for name, linear in found.items() if not linear.kernels]:
        shared = found.pop(name)
        for member in state.linears:
            if member in found and group_of(member) == name:
                found[member].operands |= shared.operands
    return found


def _missing(state: Fp8State, found: dict[str, LinearReceipt]) -> dict[str, list[str]]:
    """By FP8 linear: forward never ran, or the weight gradient of one that trains while others have theirs."""
    trained = any(products.kernels.keys() - {"fprop"} for products in found.values())
    missing = {}
    for name, linear in state.linears.items():
        if linear.precision == "fp8":
            ran = {product for label in (name, group_of(name)) if label in found for product in found[label].kernels}
            wanted = ["fprop", "wgrad"] if trained and linear.weight.requires_grad else ["fprop"]
            if set(wanted) - ran:
                missing[name] = [product for product in wanted if product not in ran]
    return missing
