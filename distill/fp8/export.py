"""Weights as a block-FP8 checkpoint stores them, and back: DeepSeek-V3's format, on a state dict in memory.

    state = block_fp8_state_dict(model.state_dict(), ["model.layers.0.mlp.down_proj", ...])
    again = dequantize_state_dict(state)

Each named linear becomes `weight` (E4M3 codes of the true size, without padding) and `weight_scale_inv` (float32, one
for each 128x128 block; value = code * weight_scale_inv, so it is the scale itself in spite of its name). Everything
else, biases, norms, embeddings and head, becomes BF16. Scales stay float32, never powers of two.

Not covered: files, config.json and the choice of linears, which distill/train/export.py does; stacked experts.

Source: README_WEIGHTS.md of deepseek-ai/DeepSeek-V3, "FP8 Weight Documentation" (a block at the edge is padded with
zeros to 128 before its scale is taken, and the padding is removed after quantisation).
https://github.com/deepseek-ai/DeepSeek-V3/blob/b4e06d883e655af15b9510ea155a6ae013720c54/README_WEIGHTS.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from distill.fp8.errors import Fp8Error
from distill.fp8.quantize import BLOCK, E4M3, Quantized, blocks_in, dequantize, quantize_blocks

SCALE_SUFFIX = "_scale_inv"


def block_fp8_state_dict(
    state_dict: Mapping[str, torch.Tensor], linear_names: Iterable[str]
) -> dict[str, torch.Tensor]:
    """The named linears in FP8 blocks, every other floating-point tensor in BF16; tied tensors stay tied.

    Raises: Fp8Error for a name that is no linear of the state dict, and for weights that are not finite.
    """
    linears = {f"{name}.weight" for name in linear_names}
    _require_linears(state_dict, linears)
    stored: dict[str, torch.Tensor] = {}
    casts: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for key, tensor in state_dict.items():
        if key in linears:
            stored[key], stored[key + SCALE_SUFFIX] = _blocks(key, tensor)
        elif tensor.is_floating_point():
            place = (tensor.data_ptr(), tensor.shape)
            if place not in casts:
                casts[place] = _bf16(key, tensor)
            stored[key] = casts[place]
        else:
            stored[key] = tensor
    return stored


def dequantize_state_dict(
    state_dict: Mapping[str, torch.Tensor], dtype: torch.dtype = torch.bfloat16
) -> dict[str, torch.Tensor]:
    """The state dict of an ordinary model, FP8 weights as `dtype`; other tensors as they are.

    Raises: Fp8Error where codes and scales do not belong together.
    """
    restored: dict[str, torch.Tensor] = {}
    for key, tensor in state_dict.items():
        if tensor.dtype == E4M3:
            scales = _scales_of(key, tensor, state_dict)
            restored[key] = _values(tensor, scales).to(dtype)
        elif not key.endswith(".weight" + SCALE_SUFFIX):
            restored[key] = tensor
        elif key.removesuffix(SCALE_SUFFIX) not in state_dict:
            raise Fp8Error(f"{key}: its weight is missing; fetch all files of the checkpoint, or export it again.")
    return restored


def _blocks(key: str, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(codes [N, K], scales [N blocks, K blocks]) of a weight [N, K]."""
    codes, scales = quantize_blocks(weight)
    finite = torch.isfinite(scales)
    if not finite.all():
        row, column = (BLOCK * int(place) for place in (~finite).nonzero()[0])
        raise Fp8Error(
            f"{key}: NaN or infinite weights in {int((~finite).sum())} of {finite.numel()} blocks, first in the one at "
            f"row {row}, column {column}; go back to a checkpoint from before the loss broke."
        )
    return codes[:, : weight.shape[1]].contiguous(), scales.contiguous()


def _bf16(key: str, tensor: torch.Tensor) -> torch.Tensor:
    rounded = tensor.to(torch.bfloat16)
    bad = int((~torch.isfinite(rounded)).sum())
    if bad:
        raise Fp8Error(
            f"{key}: {bad} of {tensor.numel()} weights are NaN, infinite or too large for BF16; go back to a "
            "checkpoint from before the loss broke."
        )
    return rounded.contiguous()


def _values(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """float32 [N, K] of codes without padding."""
    columns = codes.shape[1]
    padding = blocks_in(columns) * BLOCK - columns
    padded = torch.nn.functional.pad(codes.view(torch.uint8), (0, padding)).view(E4M3)
    return dequantize(Quantized(padded, scales), columns)


def _scales_of(key: str, codes: torch.Tensor, state_dict: Mapping[str, torch.Tensor]) -> torch.Tensor:
    scales = state_dict.get(key + SCALE_SUFFIX)
    allowed = (blocks_in(codes.shape[0]), blocks_in(codes.shape[-1]))
    if scales is None or tuple(scales.shape) != allowed or scales.dtype != torch.float32:
        found = "none" if scales is None else f"{scales.dtype} of {tuple(scales.shape)}"
        raise Fp8Error(
            f"{key}{SCALE_SUFFIX}: found {found}, but codes of {tuple(codes.shape)} need torch.float32 of {allowed}; "
            "only checkpoints in 128x128 blocks with float32 scales can be read."
        )
    return scales


def _require_linears(state_dict: Mapping[str, torch.Tensor], keys: set[str]) -> None:
    for key in sorted(keys):
        if key not in state_dict:
            raise Fp8Error(f"{key}: not in the state dict; give names of linears as model.named_modules() has them.")
        weight = state_dict[key]
        if weight.ndim != 2 or not weight.is_floating_point() or weight.element_size() == 1:
            raise Fp8Error(
                f"{key}: found {weight.dtype} of shape {tuple(weight.shape)}; only a float matrix can be cut into "
                "128x128 blocks. Leave this name out."
            )
