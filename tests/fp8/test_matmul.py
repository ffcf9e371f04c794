"""The FP8 product: its definition against float64, its choice of a backend, and the layouts the libraries want."""

import pytest
import torch

from distill.fp8 import matmul as products
from distill.fp8.errors import Fp8Error
from distill.fp8.matmul import candidates, choose, choose_from, emulation, matmul, supports
from distill.fp8.quantize import (
    BLOCK,
    E4M3,
    E4M3_MAX,
    Quantized,
    dequantize,
    quantize_blocks,
    quantize_columns,
    quantize_rows,
    transpose_blocks,
)

HOPPER, BLACKWELL, ADA, AMPERE = (9, 0), (10, 0), (8, 9), (8, 0)


def heavy_tailed(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers times log-normal ones: magnitudes over many powers of two, and a few channels far larger."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator)
    x *= torch.exp(torch.randn(rows, columns, generator=generator))
    x[:, :: max(columns // 4, 1)] *= 300
    return x


def exact(a: Quantized, b: Quantized) -> torch.Tensor:
    return dequantize(a).double() @ dequantize(b).double().t()


def relative_to_magnitude(got: torch.Tensor, a: Quantized, b: Quantized) -> float:
    """The largest error of an element, in terms of the sum of the magnitudes of its products."""
    magnitude = dequantize(a).double().abs() @ dequantize(b).double().abs().t()
    return float(((got.double() - exact(a, b)).abs() / magnitude.clamp_min(1e-300)).max())


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("quantize_b", [quantize_blocks, quantize_rows])
@pytest.mark.parametrize(("rows_a", "rows_b", "inner"), [(256, 128, 384), (5, 3, 7), (129, 257, 130), (600, 48, 1000)])
def test_emulation_is_the_product_of_the_dequantised_matrices(rows_a, rows_b, inner, quantize_b, power_of_two):
    a = quantize_rows(heavy_tailed(rows_a, inner), power_of_two)
    b = quantize_b(heavy_tailed(rows_b, inner, seed=1), power_of_two)
    got = matmul(a, b, torch.float32, "emulation")
    assert got.shape == (rows_a, rows_b) and got.dtype == torch.float32
    # Each sum and each product with a scale rounds by 2^-24 of the magnitudes: 128 in a block, 5, and one for a block.
    assert relative_to_magnitude(got, a, b) < (133 + inner / BLOCK) * 2.0**-24


def test_emulation_in_bfloat16_rounds_the_float32_result_once():
    a, b = quantize_rows(heavy_tailed(70, 300)), quantize_blocks(heavy_tailed(40, 300, seed=1))
    assert torch.equal(matmul(a, b, torch.bfloat16, "emulation"), matmul(a, b, torch.float32, "emulation").bfloat16())


def test_emulation_does_not_depend_on_the_rows_it_does_at_a_time(monkeypatch):
    a, b = quantize_rows(heavy_tailed(300, 520)), quantize_blocks(heavy_tailed(130, 520, seed=1))
    at_once = emulation(a, b, torch.float32)
    monkeypatch.setattr(products, "_ROWS_IN_CACHE", 64)
    assert torch.equal(emulation(a, b, torch.float32), at_once)


def test_a_scale_moved_by_one_block_would_be_seen():
    a, b = quantize_rows(heavy_tailed(64, 512)), quantize_blocks(heavy_tailed(64, 512, seed=1))
    moved = b._replace(scales=b.scales.roll(1, dims=1))
    assert relative_to_magnitude(emulation(a, moved, torch.float32), a, b) > 0.1


def test_forward_dgrad_and_wgrad_are_near_the_products_of_what_was_quantised():
    tokens, outputs, inputs = 200, 136, 260
    x, w, dy = heavy_tailed(tokens, inputs), heavy_tailed(outputs, inputs, 1) / 300, heavy_tailed(tokens, outputs, 2)
    weights = quantize_blocks(w)
    y = matmul(quantize_rows(x), weights, torch.float32, "emulation")
    dx = matmul(quantize_rows(dy), transpose_blocks(weights, outputs, inputs), torch.float32, "emulation")
    dw = matmul(quantize_columns(dy), quantize_columns(x), torch.float32, "emulation")
    for got, want in ((y, x @ w.t()), (dx, dy @ w), (dw, dy.t() @ x)):
        assert got.shape == want.shape
        assert float((got - want).norm() / want.norm()) < 0.06  # E4M3 rounds by up to 2^-4 = 0.0625


def tensorwise(x: torch.Tensor) -> torch.Tensor:
    """x after one scale for the whole tensor, to E4M3 and back: the simplest FP8 recipe."""
    scale = x.abs().max() / E4M3_MAX
    return (x / scale).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3).float() * scale


def row_errors(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    return (got - want).norm(dim=1) / want.norm(dim=1)


def test_blocks_keep_what_one_scale_loses_to_an_outlier():
    """One value 100,000 times the others, as Massive Activations in Large Language Models (2402.17762) reports."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(64, 512, generator=generator), torch.randn(96, 512, generator=generator)
    x[0, 0] = 1e5
    want = x @ w.t()
    blockwise = row_errors(matmul(quantize_rows(x), quantize_blocks(w), torch.float32, "emulation"), want)
    one_scale = row_errors(tensorwise(x) @ tensorwise(w).t(), want)
    assert float(blockwise[1:].max()) < 0.06
    assert float(one_scale[1:].max()) > 2.5 * float(blockwise[1:].max())


def test_on_normal_data_one_scale_is_as_good_so_that_test_says_something():
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(64, 512, generator=generator), torch.randn(96, 512, generator=generator)
    want = x @ w.t()
    blockwise = row_errors(matmul(quantize_rows(x), quantize_blocks(w), torch.float32, "emulation"), want).mean()
    one_scale = row_errors(tensorwise(x) @ tensorwise(w).t(), want).mean()
    assert 0.8 < float(one_scale / blockwise) < 1.25


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_in_its_row_and_only_there(bad):
    x = heavy_tailed(8, 300)
    x[3, 200] = bad
    y = matmul(quantize_rows(x), quantize_blocks(heavy_tailed(16, 300, 1)), torch.float32, "emulation")
    assert not torch.isfinite(y[3]).any()
    assert torch.isfinite(y[[0, 1, 2, 4, 5, 6, 7]]).all()


def test_operands_that_do_not_fit_are_named():
    a, b = quantize_rows(torch.ones(4, 128)), quantize_rows(torch.ones(4, 256))
    with pytest.raises(Fp8Error, match=r"a \[4, 128\] with scales \[4, 1\], b \[4, 256\]"):
        matmul(a, b, torch.float32, "emulation")
    with pytest.raises(Fp8Error, match="a must be 1x128"):
        matmul(quantize_blocks(torch.ones(4, 128)), a, torch.float32, "emulation")
    with pytest.raises(Fp8Error, match="float16; allowed are"):
        matmul(a, a, torch.float16, "emulation")
    with pytest.raises(Fp8Error, match="'cublas' is unknown; there are hopper, mxfp8, triton, emulation"):
        matmul(a, a, torch.float32, "cublas")


# The choice of a backend ------------------------------------------------------------------------------------------


def of_size(rows_a: int, rows_b: int) -> tuple[Quantized, Quantized]:
    return quantize_rows(torch.ones(rows_a, 256)), quantize_blocks(torch.ones(rows_b, 256))


def test_candidates_are_in_order_of_preference():
    assert candidates(None) == ("emulation",)
    assert candidates(HOPPER) == ("hopper", "triton")
    assert candidates(BLACKWELL) == candidates((10, 3)) == candidates((12, 0)) == ("mxfp8", "triton")
    assert candidates(ADA) == ("triton",)
    assert candidates(AMPERE) == ()


def test_a_cpu_emulates_and_has_nothing_better():
    a, b = of_size(3, 5)
    assert choose(a, b, torch.bfloat16, "cpu") == ("emulation", [])
    assert torch.equal(matmul(a, b, torch.float32), emulation(a, b, torch.float32))


def test_a_shape_that_fits_gets_the_best_backend_without_a_reason():
    a, b = of_size(4, 128)
    assert choose_from(a, b, HOPPER, {}) == ("hopper", [])
    assert choose_from(a, quantize_rows(torch.ones(48, 256)), HOPPER, {}) == ("hopper", [])
    assert choose_from(of_size(3, 16)[0], of_size(3, 16)[1], BLACKWELL, {}) == ("mxfp8", [])
    assert choose_from(a, b, ADA, {}) == ("triton", [])


@pytest.mark.parametrize(
    ("rows_a", "b", "capability", "reason"),
    [
        (6, quantize_blocks(torch.ones(128, 256)), HOPPER, "hopper: 6 rows are no multiple of 4"),
        (8, quantize_blocks(torch.ones(192, 256)), HOPPER, "hopper: 192 columns are no multiple of 128"),
        (8, quantize_rows(torch.ones(24, 256)), HOPPER, "hopper: 24 columns are no multiple of 16"),
        (8, quantize_blocks(torch.ones(24, 256)), BLACKWELL, "mxfp8: 24 columns are no multiple of 16"),
    ],
)
def test_a_shape_the_library_does_not_take_goes_to_triton_with_the_reason(rows_a, b, capability, reason):
    backend, reasons = choose_from(quantize_rows(torch.ones(rows_a, 256)), b, capability, {})
    assert backend == "triton" and len(reasons) == 1 and reasons[0].startswith(reason)


def test_a_backend_refuses_the_device_it_is_not_for():
    a, b = of_size(4, 16)
    assert "Hopper" in str(supports("hopper", a, b, BLACKWELL))
    assert "Blackwell" in str(supports("mxfp8", a, b, HOPPER))
    assert "8.9 or later" in str(supports("triton", a, b, AMPERE))
    assert "8.9 or later" in str(supports("triton", a, b, None))
    for capability in (None, AMPERE, ADA, HOPPER, BLACKWELL):
        assert supports("emulation", a, b, capability) is None


def test_a_backend_that_failed_its_check_is_passed_over_with_that_reason():
    a, b = of_size(4, 128)
    failed = {"hopper": "it raised RuntimeError: CUBLAS_STATUS_NOT_SUPPORTED", "triton": None}
    assert choose_from(a, b, HOPPER, failed) == ("triton", [f"hopper: {failed['hopper']}"])


def test_with_no_backend_left_the_error_gives_every_reason():
    a, b = of_size(4, 16)
    with pytest.raises(Fp8Error, match="hopper: it raised A; triton: it raised B"):
        choose_from(a, b, HOPPER, {"hopper": "it raised A", "triton": "it raised B"})
    with pytest.raises(Fp8Error, match=r"compute capability \(8, 0\), and FP8 tensor cores begin with \(8, 9\)"):
        choose_from(a, b, AMPERE, {})


def test_the_self_check_passes_the_definition_and_sees_each_kind_of_wrong_scale():
    a, blocks, rows = products.check_operands(torch.device("cpu"), power_of_two=False)
    for b in (blocks, rows):
        for out_dtype in products.OUT_DTYPES:
            assert products.disagreement(matmul(a, b, out_dtype, "emulation"), a, b) is None
        wrong = {
            "scales of a along the wrong side": (a._replace(scales=a.scales.t().reshape(a.scales.shape)), b),
            "scales of b of the next block": (a, b._replace(scales=b.scales.roll(1, dims=1))),
            "scales of b of the next row": (a, b._replace(scales=b.scales.roll(1, dims=0))),
            "no scales of b": (a, b._replace(scales=torch.ones_like(b.scales))),
        }
        for name, operands in wrong.items():
            assert products.disagreement(emulation(*operands, torch.float32), a, b) is not None, name
    not_finite = emulation(a, blocks, torch.float32).fill_(float("nan"))
    assert "elements" in str(products.disagreement(not_finite, a, blocks))


def test_the_self_check_reports_what_a_backend_raises():
    reason = products._checked("hopper", torch.device("cpu"))
    assert reason is not None and reason.startswith("it raised ") and "128x128 scales, torch.bfloat16" in reason


# Layouts of scales ------------------------------------------------------------------------------------------------


def is_outer_major(scales: torch.Tensor) -> bool:
    rows, blocks = scales.shape
    return scales.stride(0) == 1 and (scales.stride(1) == rows or (blocks == 1 and scales.stride(1) == 1))


@pytest.mark.parametrize("blocks_deep", [1, 4, 5, 8])
def test_hopper_gets_the_strides_that_torch_checks(blocks_deep, monkeypatch):
    """The shapes and strides of `_scaled_block1x128_block128x128` and `_scaled_block1x128_block1x128`."""
    calls = []
    monkeypatch.setattr(torch.nn.functional, "scaled_mm", lambda *args, **options: calls.append((args, options)))
    a = quantize_rows(heavy_tailed(12, blocks_deep * BLOCK))
    blocks, rows = (quantize(heavy_tailed(384, blocks_deep * BLOCK)) for quantize in (quantize_blocks, quantize_rows))
    products.hopper(a, blocks, torch.bfloat16)
    products.hopper(a, rows, torch.float32)
    kinds = torch.nn.functional.ScalingType
    padded = -(-blocks_deep // 4) * 4
    (codes_a, codes_b, scales_a, kind_a, scales_b, kind_b), options = calls[0]
    assert codes_a.stride() == (blocks_deep * BLOCK, 1) and codes_b.stride() == (1, blocks_deep * BLOCK)
    assert (kind_a, kind_b) == (kinds.BlockWise1x128, kinds.BlockWise128x128)
    assert scales_a.shape == (12, blocks_deep) and is_outer_major(scales_a)
    assert scales_b.shape == (padded, 3) and scales_b.stride() == (1, padded)
    assert torch.equal(scales_b[:blocks_deep].t(), blocks.scales) and not scales_b[blocks_deep:].any()
    assert options == {"output_dtype": torch.bfloat16}
    _, _, _, _, scales_b, kind_b = calls[1][0]
    assert kind_b == kinds.BlockWise1x128 and scales_b.shape == (384, blocks_deep) and is_outer_major(scales_b)


def on_meta(q: Quantized) -> Quantized:
    return Quantized(q.codes.to("meta"), q.scales.to("meta"))


@pytest.mark.parametrize("out_dtype", products.OUT_DTYPES)
@pytest.mark.parametrize("inner", [100, 640, 1024])
@pytest.mark.parametrize("quantize_b", [quantize_blocks, quantize_rows])
@pytest.mark.parametrize("product", [products.hopper, products.mxfp8])
def test_torch_itself_takes_these_layouts(product, quantize_b, inner, out_dtype):
    """Its checks of a traced product, which need no GPU."""
    a, b = quantize_rows(heavy_tailed(12, inner), True), quantize_b(heavy_tailed(384, inner), True)
    y = product(on_meta(a), on_meta(b), out_dtype)
    assert y.shape == (12, 384) and y.dtype == out_dtype


def test_torch_itself_refuses_other_layouts(monkeypatch):
    a, b = quantize_rows(heavy_tailed(12, 640), True), quantize_blocks(heavy_tailed(384, 640), True)
    with pytest.raises(RuntimeError, match="scale a must have shape"):
        products.hopper(on_meta(a)._replace(scales=a.scales.contiguous().to("meta")), on_meta(b), torch.float32)
    monkeypatch.setattr(products, "padded_blocks", lambda scales: scales)
    with pytest.raises(RuntimeError, match="L4"):
        products.hopper(on_meta(a), on_meta(b), torch.float32)
    monkeypatch.setattr(products, "swizzle_32_4_4", lambda groups: groups.reshape(-1))
    with pytest.raises(RuntimeError, match="for MX scaling scale_a must have"):
        products.mxfp8(on_meta(a), on_meta(b), torch.float32)


@pytest.mark.parametrize(("rows", "columns"), [(128, 4), (1, 4), (200, 12), (256, 5), (300, 70)])
def test_the_swizzle_is_what_cublas_defines(rows, columns):
    groups = torch.randint(1, 255, (rows, columns), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = products.swizzle_32_4_4(groups)
    padded_columns = -(-columns // 4) * 4
    want = torch.zeros(-(-rows // 128) * 128 * padded_columns, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = (column // 4 * 4 + row // 128 * padded_columns) * 128  # (sf_inner + sf_outer * sf_inner_dim) * 128
            outer, inner = row % 128, column % 4
            want[tile + (outer % 32) * 16 + (outer // 32) * 4 + inner] = groups[row, column]
    assert got.is_contiguous() and torch.equal(got, want)


@pytest.mark.parametrize("quantize", [quantize_rows, quantize_blocks])
def test_groups_of_32_give_the_same_matrix_bit_for_bit(quantize):
    x = heavy_tailed(150, 300) * torch.logspace(-20, 15, 150)[:, None]
    x[140:] = 0
    q = quantize(x, power_of_two=True)
    groups = products.groups_of_32(q)
    assert groups.shape == (150, 384 // 32)
    scales = groups.view(torch.float8_e8m0fnu).float().repeat_interleave(32, dim=1)
    assert torch.equal(q.codes.float() * scales, dequantize(q))


def test_groups_of_32_keep_what_is_not_finite():
    x = torch.ones(2, 256)
    x[0, 5], x[1, 200] = float("inf"), float("nan")
    scales = products.groups_of_32(quantize_rows(x, power_of_two=True)).view(torch.float8_e8m0fnu).float()
    assert torch.isnan(scales[0, :4]).all() and torch.isnan(scales[1, 4:]).all()
    assert torch.isfinite(scales[0, 4:]).all() and torch.isfinite(scales[1, :4]).all()


def test_mxfp8_hands_over_as_many_scales_as_torch_checks(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.nn.functional, "scaled_mm", lambda *args, **options: calls.append((args, options)))
    a, b = quantize_rows(heavy_tailed(131, 300), True), quantize_blocks(heavy_tailed(272, 300), True)
    products.mxfp8(a, b, torch.float32)
    (_, codes_b, scales_a, kind_a, scales_b, kind_b), options = calls[0]
    assert kind_a == kind_b == torch.nn.functional.ScalingType.BlockWise1x32
    assert scales_a.dtype == scales_b.dtype == torch.float8_e8m0fnu
    assert scales_a.numel() == 256 * 12 and scales_b.numel() == 384 * 12  # rows up to 128, groups up to 4
    assert codes_b.stride() == (1, 384) and options["output_dtype"] == torch.float32
    assert options["swizzle_a"] == options["swizzle_b"] == torch.nn.functional.SwizzleType.SWIZZLE_32_4_4
