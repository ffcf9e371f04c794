"""What an export is and how far its logits are from the model's: the figures, and the README.md that tells them.

    text = export_card(figures, card)

Not covered: the student's own card (distill/train/student.py writes it), which comes before this one's section.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from distill.train.logits import LogitDifference


@dataclass(frozen=True)
class ExportFigures:
    """What was written, and how far its logits are from the model's."""

    format: str
    weight_bytes: int
    weight_files: int
    fp8_linears: int
    linears_kept_in_bf16: list[str]
    weights: LogitDifference
    """Of the stored weights, all else computed as in the model."""
    weights_and_activations: LogitDifference | None
    """With the inputs of the FP8 linears in 1x128 blocks too, as FP8 kernels read them; None for BF16."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, figures: dict[str, Any]) -> ExportFigures:
        both = figures["weights_and_activations"]
        differences = {
            "weights": LogitDifference(**figures["weights"]),
            "weights_and_activations": both and LogitDifference(**both),
        }
        return cls(**(figures | differences))


def export_card(figures: ExportFigures, card: str) -> str:
    """README.md of an exported folder: the student's card, then what this export is and how far it is from it."""
    if figures.format == "bf16":
        stored = "- Weights: BF16 safetensors."
    else:
        others = f", and {len(figures.linears_kept_in_bf16)} linears" if figures.linears_kept_in_bf16 else ""
        stored = f"""- Weights: {figures.fp8_linears} linears in block FP8, DeepSeek-V3's format (E4M3 `weight`, \
float32 `weight_scale_inv` for each 128x128 block). BF16: embeddings, head, norms, biases{others}.
- Loads in transformers; where no CUDA device can run FP8 it becomes BF16 on loading. The names are those vLLM reads."""
    rows = [("weights", figures.weights), ("weights and activations", figures.weights_and_activations)]
    table = "\n".join(
        f"| {what} | {of.max_abs_difference:.4g} | {of.mean_abs_difference:.4g} | {of.kl_nats_per_token:.4g} | "
        f"{of.top1_agreement:.2%} |"
        for what, of in rows
        if of is not None
    )
    return f"""{card.rstrip()}

## Export: {figures.format}
{stored}
- Size: {figures.weight_bytes:,} bytes in {figures.weight_files} file(s).

Logits of this checkpoint, read back, against the model it was made from, over {figures.weights.num_tokens:,} tokens. \
KL is KL(model || this), in nats per token; activations are emulated in 1x128 blocks, not run on a GPU's kernels.

| stored in the export's precision | max abs difference | mean abs difference | KL | same top token |
|---|---|---|---|---|
{table}
"""
