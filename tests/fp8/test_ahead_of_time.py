"""Every shipped configuration of every kernel compiles for Hopper and Blackwell, without spills and within limits."""

import importlib
import pkgutil

import pytest

pytest.importorskip("triton")

from ahead_of_time import SHARED_LIMIT_BYTES, compile_ahead

from distill.fp8 import kernels
from distill.fp8.kernels.configuration import Configuration

MODULES = [
    importlib.import_module(f"{kernels.__name__}.{found.name}") for found in pkgutil.iter_modules(kernels.__path__)
]
SHIPPED: list[Configuration] = [one for module in MODULES for one in getattr(module, "CONFIGURATIONS", [])]
CAPABILITIES = (90, 100)


def _is_slow(configuration: Configuration, capability: int) -> bool:
    """Off the training path, or nearly the same as one that always runs: --slow runs these too."""
    name = configuration.name
    return any(word in name for word in ("fp16", "fp32", "odd")) or ("power_of_two" in name and capability == 90)


def _cases() -> list:
    return [
        pytest.param(
            one,
            capability,
            id=f"{one.name}-sm{capability}",
            marks=[pytest.mark.slow] * _is_slow(one, capability),
        )
        for one in SHIPPED
        for capability in CAPABILITIES
    ]


def test_names_are_unique_and_quantisers_are_among_them():
    names = [one.name for one in SHIPPED]
    assert len(names) == len(set(names))
    assert {"quantize_rows_bf16", "quantize_both_bf16_power_of_two", "transpose_blocks"} <= set(names)


@pytest.mark.parametrize(("configuration", "capability"), _cases())
def test_no_spills_and_within_limits(configuration, capability):
    compiled = compile_ahead(configuration, capability)
    assert compiled.spills == 0, f"{compiled.spills} loads or stores of local memory"
    assert compiled.registers <= 255
    assert compiled.shared_bytes <= SHARED_LIMIT_BYTES
    assert compiled.tensor_core == configuration.products
    if configuration.name.startswith("quantize_"):
        assert "cvt.rn.satfinite.e4m3x2" in compiled.ptx
        assert "odd" in configuration.name or "STG.E.128" in compiled.sass


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    "name", ["quantize_rows_bf16", "quantize_columns_bf16", "quantize_blocks_bf16", "transpose_blocks"]
)
def test_sizes_that_are_no_multiple_of_16_do_not_spill_either(name, capability):
    configuration = next(one for one in SHIPPED if one.name == name)
    assert compile_ahead(configuration, capability, aligned=False).spills == 0


def test_the_count_of_spills_sees_spills():
    rows = next(one for one in SHIPPED if one.name == "quantize_both_bf16")
    assert compile_ahead(rows._replace(max_registers=32), 90).spills > 0
