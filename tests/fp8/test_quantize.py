"""The reference quantiser against arithmetic of its own: float64, and a search in the table of the 256 codes."""

import numpy as np
import pytest
import torch
from quantizer_data import KINDS, assert_same, code_bytes, matrix

from distill.fp8 import quantize

SIZES = [(1, 1), (3, 128), (130, 257), (128, 256)]


def e4m3_table() -> np.ndarray:
    """Values of codes 0x00 to 0x7E from the definition: 4 bits of exponent, bias 7, 3 of mantissa, no infinity."""
    values = []
    for code in range(0x7F):
        exponent, mantissa = code >> 3, code & 7
        values.append(mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    return np.array(values)


def nearest_code(x: np.ndarray) -> np.ndarray:
    """The code of the nearest table entry, of two equally near the even one; float64 distances are exact here."""
    table = e4m3_table()
    magnitude = np.minimum(np.abs(np.nan_to_num(x, nan=0.0)), 448.0)
    upper = np.searchsorted(table, magnitude).clip(0, 0x7E)
    lower = (upper - 1).clip(0)
    above, below = table[upper] - magnitude, magnitude - table[lower]
    is_lower = (below < above) | ((below == above) & (lower % 2 == 0))
    code = np.where(is_lower, lower, upper) | np.where(np.signbit(x), 0x80, 0)
    return np.where(np.isnan(x), 0x7F, code).astype(np.uint8)


def oracle_scale(amax: float, power_of_two: bool) -> tuple[np.float32, np.float32]:
    """(scale, inverse) of a block in float64, each rounded once to float32; a quotient of floats cannot round twice."""
    amax = amax if np.isnan(amax) else max(amax, 2.0**-110)
    scale, inverse = np.float32(amax / 448.0), np.float32(448.0 / amax)
    if power_of_two and np.isfinite(scale):
        fraction, exponent = np.frexp(scale)
        exponent = exponent - 1 if fraction == 0.5 else exponent
        scale, inverse = np.float32(2.0 ** float(exponent)), np.float32(2.0 ** -float(exponent))
    return scale, inverse


def oracle_rows(x: torch.Tensor, power_of_two: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of 1x128 blocks, one block after another."""
    numbers = x.float().numpy()
    rows, columns = numbers.shape
    blocks = -(-columns // 128)
    codes, scales = np.zeros((rows, blocks * 128), np.uint8), np.zeros((rows, blocks), np.float32)
    for row in range(rows):
        for block in range(blocks):
            part = numbers[row, block * 128 : (block + 1) * 128]
            scale, inverse = oracle_scale(float(np.abs(part).max()), power_of_two)
            with np.errstate(invalid="ignore"):
                scaled = (part.astype(np.float64) * float(inverse)).astype(np.float32)
            scales[row, block] = scale
            codes[row, block * 128 : block * 128 + len(part)] = nearest_code(scaled.astype(np.float64))
    return codes, scales


def test_encode_is_nearest_even_at_every_tie_and_beside_it():
    table = torch.tensor(e4m3_table(), dtype=torch.float32)
    ties = (table[1:] + table[:-1]) / 2
    around = [torch.nextafter(ties, torch.tensor(side)) for side in (-1e9, 1e9)]
    above = torch.tensor([448.0, 464.0, 465.0, 480.0, 1e30, float("inf")])
    x = torch.cat([table, ties, *around, above])
    x = torch.cat([x, -x, torch.tensor([float("nan")])])
    expected = torch.from_numpy(nearest_code(x.double().numpy()))
    assert torch.equal(quantize.encode(x).view(torch.uint8) & 0xFF, expected)
    assert torch.equal(quantize.encode(table).float(), table)


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rows_are_the_oracle_s(size, kind, power_of_two):
    x = matrix(kind, *size)
    found = quantize.quantize_rows(x, power_of_two)
    codes, scales = oracle_rows(x, power_of_two)
    np.testing.assert_array_equal(found.scales.numpy(), scales)
    padding = code_bytes(found)[:, size[1] :].numpy()
    np.testing.assert_array_equal(code_bytes(found)[:, : size[1]].numpy(), codes[:, : size[1]])
    # 0 * NaN: the padding of a block with NaN is NaN, like all of its products.
    assert ((padding == 0) | np.isnan(scales[:, -1:])).all()
    assert found.scales.stride(0) == 1 or size[0] == 1


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_rows_of_the_flattened_block(kind, power_of_two):
    w = matrix(kind, 130, 257)
    found = quantize.quantize_blocks(w, power_of_two)
    for row in (0, 128):
        for column in (0, 128, 256):
            block = w[row : row + 128, column : column + 128]
            scale, inverse = oracle_scale(float(block.abs().amax()), power_of_two)
            np.testing.assert_array_equal(found.scales[row // 128, column // 128].numpy(), scale)
            with np.errstate(invalid="ignore"):
                scaled = (block.numpy().astype(np.float64) * float(inverse)).astype(np.float32)
            codes = code_bytes(found)[row : row + 128, column : column + block.shape[1]].numpy()
            np.testing.assert_array_equal(codes, nearest_code(scaled.astype(np.float64)))
    assert kind == "nan" or code_bytes(found)[:, 257:].sum() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_inputs_are_their_float32_values(kind, dtype):
    x = matrix(kind, 5, 200, dtype)
    assert_same(quantize.quantize_rows(x), quantize.quantize_rows(x.float()))
    assert_same(quantize.quantize_blocks(x), quantize.quantize_blocks(x.float()))


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_rows_of_the_transpose_and_both_is_both(kind):
    x = matrix(kind, 130, 257)
    by_row, by_column = quantize.quantize_both(x)
    assert_same(by_row, quantize.quantize_rows(x))
    assert_same(by_column, quantize.quantize_columns(x))
    assert_same(by_column, quantize.quantize_rows(x.t().contiguous()))


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_transposed_blocks_are_the_blocks_of_the_transpose(size, kind, power_of_two):
    w = matrix(kind, *size)
    found = quantize.transpose_blocks(quantize.quantize_blocks(w, power_of_two), *size)
    assert_same(found, quantize.quantize_blocks(w.t().contiguous(), power_of_two), columns=size[0])


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("infinite", "nan")])
def test_finite_blocks_are_not_saturated_and_stay_within_half_a_step(kind, power_of_two):
    x = matrix(kind, 64, 384, seed=1)
    found = quantize.quantize_rows(x, power_of_two)
    _, inverse = quantize.scale_of(x.view(64, 3, 128).abs().amax(dim=2), power_of_two)
    scaled = x.double().view(64, 3, 128) * inverse.double()[:, :, None]
    # One rounding of the inverse, one of the product: at most 2^-23 above the largest code, never near 464.
    assert scaled.abs().max() <= 448.0 * (1 + 2.0**-23)
    error = (found.codes.double().view(64, 3, 128) - scaled).abs()
    assert (error <= torch.clamp(scaled.abs() * 2.0**-4, min=2.0**-10) * (1 + 1e-6)).all()
    assert torch.isfinite(quantize.dequantize(found)).all()


def test_power_of_two_scales_are_powers_of_two_and_never_smaller():
    x = matrix("heavy_tailed", 64, 256)
    plain, rounded = quantize.quantize_rows(x).scales, quantize.quantize_rows(x, power_of_two=True).scales
    assert (torch.frexp(rounded).mantissa == 0.5).all()
    assert (rounded >= plain).all() and (rounded < 2 * plain).all()


@pytest.mark.parametrize("kind", ["infinite", "nan"])
def test_a_block_that_is_not_finite_stays_so_and_others_are_untouched(kind):
    x = matrix(kind, 64, 256)
    found = quantize.quantize_rows(x)
    is_finite = torch.isfinite(x.view(64, 2, 128)).all(dim=2)
    assert torch.equal(torch.isfinite(found.scales), is_finite)
    assert not is_finite.all()


def test_zero_blocks_have_zero_codes_and_normal_scales():
    found = quantize.quantize_rows(torch.zeros(2, 256))
    assert code_bytes(found).sum() == 0
    assert (found.scales >= torch.finfo(torch.float32).tiny).all()
