"""The quantiser: E4M3 codes with one scale for each 1x128 or 128x128 block, amax taken online.

    rows = quantize_rows(x)          # activations and their gradients: 1x128, along the inner dimension of a product
    columns = quantize_columns(x)    # the same numbers for a product along tokens: 128x1, stored transposed
    blocks = quantize_blocks(w)      # weights: 128x128

Plain torch, on any device, and the definition of every bit: the Triton kernels must give the same codes and scales
(tests/fp8 hold them together). For a block with largest magnitude `amax`

    scale   = max(amax, 2^-110) / 448            stored; value = code * scale
    inverse = 448 / max(amax, 2^-110)
    code    = E4M3(clamp(x * inverse, -448, 448))    round to nearest even

in float32, each operation rounded once. With `power_of_two` the scale is rounded up to a power of two (UE8M0, what
Blackwell's MXFP8 and exact re-tiling need) and `inverse` is its exact reciprocal. The floor keeps both normal numbers;
a block of zeros gets zero codes. A block with an infinite or NaN value keeps a non-finite scale, so that whatever is
computed from it is not finite either: nothing is hidden.

Source: DeepSeek-V3, arXiv 2412.19437, section 3.3.2 (1x128 tiles, 128x128 blocks, online amax, E4M3 throughout).

Letters for sizes, here and in the kernels: T tokens, N outputs, K inputs of a linear; R x C any matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

BLOCK = 128
E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0
AMAX_FLOOR = 2.0**-110
"""448 / AMAX_FLOOR and AMAX_FLOOR / 448 are both normal float32 numbers."""


class Quantized(NamedTuple):
    """A matrix in FP8, ready to be one side of a product along its second dimension.

    codes: [R, C] E4M3, row-major; C is padded with zeros to a multiple of 128.
    scales: float32. 1x128: [R, C / 128], stored column by column (stride (1, R)), as Hopper's kernels read it.
        128x128: [ceil(R / 128), C / 128], row-major.
    """

    codes: torch.Tensor
    scales: torch.Tensor

    @property
    def is_2d(self) -> bool:
        """True for 128x128 blocks."""
        return self.scales.shape[0] != self.codes.shape[0]


def blocks_in(size: int) -> int:
    """How many blocks of 128 cover `size`."""
    return -(-size // BLOCK)


def scale_of(amax: torch.Tensor, power_of_two: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, inverse) of blocks with these largest magnitudes, float32 of the same shape."""
    amax = amax.float()
    amax = torch.where(amax < AMAX_FLOOR, AMAX_FLOOR, amax)  # keeps NaN, which clamp would not on every device
    largest = torch.full_like(amax, E4M3_MAX)  # number / tensor, and tensor / number on CUDA, would round twice
    scale, inverse = amax / largest, largest / amax
    if not power_of_two:
        return scale, inverse
    bits = scale.view(torch.int32)
    exponent = (bits >> 23) + ((bits & 0x7FFFFF) != 0).int()  # rounded up: 2^-24 more would overflow the block
    rounded = (exponent << 23).view(torch.float32)
    reciprocal = ((254 - exponent) << 23).view(torch.float32)
    finite = torch.isfinite(scale)
    return torch.where(finite, rounded, scale), torch.where(finite, reciprocal, inverse)


def encode(scaled: torch.Tensor) -> torch.Tensor:
    """E4M3 codes of float32 numbers: nearest even, saturating at 448, NaN kept.

    torch before 2.12 gave NaN above 464 (pytorch#178817), hence the clamp, which keeps NaN.
    """
    return scaled.clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)


def decode(codes: torch.Tensor) -> torch.Tensor:
    """float32 values of E4M3 codes; looked up on a CPU, nine times faster there than torch's cast, to the same bits."""
    if codes.device.type != "cpu":
        return codes.float()
    table = torch.arange(256, dtype=torch.uint8).view(E4M3).float()
    return table.index_select(0, codes.reshape(-1).view(torch.uint8).int()).view(codes.shape)


def quantize_rows(x: torch.Tensor, power_of_two: bool = False) -> Quantized:
    """1x128 blocks of x [R, C]: one scale for 128 neighbouring numbers of a row."""
    rows, columns = x.shape
    num_blocks = blocks_in(columns)
    tiles = _padded(x.float(), rows, num_blocks * BLOCK).view(rows, num_blocks, BLOCK)
    scale, inverse = scale_of(tiles.abs().amax(dim=2), power_of_two)
    codes = encode(tiles * inverse[:, :, None]).view(rows, num_blocks * BLOCK)
    return Quantized(codes, column_major(scale))


def quantize_columns(x: torch.Tensor, power_of_two: bool = False) -> Quantized:
    """The transpose of x [R, C] in 1x128 blocks: codes [C, R padded], one scale for 128 neighbours of a column."""
    return quantize_rows(x.t(), power_of_two)


def quantize_both(x: torch.Tensor, power_of_two: bool = False) -> tuple[Quantized, Quantized]:
    """`quantize_rows` and `quantize_columns` of the same matrix; one read of it on a GPU."""
    return quantize_rows(x, power_of_two), quantize_columns(x, power_of_two)


def quantize_blocks(w: torch.Tensor, power_of_two: bool = False) -> Quantized:
    """128x128 blocks of w [R, C]; a block at the edge has the numbers that are there."""
    rows, columns = w.shape
    row_blocks, column_blocks = blocks_in(rows), blocks_in(columns)
    tiles = _padded(w.float(), row_blocks * BLOCK, column_blocks * BLOCK)
    tiles = tiles.view(row_blocks, BLOCK, column_blocks, BLOCK)
    scale, inverse = scale_of(tiles.abs().amax(dim=(1, 3)), power_of_two)
    codes = encode(tiles * inverse[:, None, :, None]).view(row_blocks * BLOCK, column_blocks * BLOCK)
    return Quantized(codes[:rows].contiguous(), scale)


def transpose_blocks(w: Quantized, rows: int, columns: int) -> Quantized:
    """The transpose of `quantize_blocks` of a [rows, columns] matrix, bit for bit: 128x128 blocks have no direction."""
    codes = w.codes.view(torch.uint8)[:, :columns].t()
    codes = _padded(codes, columns, blocks_in(rows) * BLOCK).contiguous()
    return Quantized(codes.view(E4M3), w.scales.t().clone(memory_format=torch.contiguous_format))


def dequantize(q: Quantized, columns: int | None = None) -> torch.Tensor:
    """float32 [R, C], without the padding when `columns` says how many there were."""
    rows, padded = q.codes.shape
    scales = q.scales
    if q.is_2d:
        scales = scales.repeat_interleave(BLOCK, dim=0)[:rows]
    values = decode(q.codes).view(rows, padded // BLOCK, BLOCK) * scales[:, :, None]
    return values.view(rows, padded)[:, :columns]


def column_major(scales: torch.Tensor) -> torch.Tensor:
    """The same [R, blocks] scales with stride (1, R)."""
    return scales.t().contiguous().t()


def _padded(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """x in the upper left of a matrix of zeros of that size; x itself where nothing is added."""
    if x.shape == (rows, columns):
        return x.contiguous()
    return torch.nn.functional.pad(x, (0, columns - x.shape[1], 0, rows - x.shape[0])).contiguous()
