"""One way a kernel is compiled: what a launcher uses, and what the tests compile ahead of time, without a GPU.

    ROWS = Configuration("quantize_rows", _rows_kernel, {"x": "*bf16", ...}, {"BLOCK": 128, "EMULATE": False}, 4, 1)
    _rows_kernel[grid](x, ..., BLOCK=128, EMULATE=INTERPRETED, **ROWS.options)

Every module of this folder lists the configurations it ships in CONFIGURATIONS; tests/fp8/test_ahead_of_time.py finds
the lists by itself and compiles each entry for sm_90 and sm_100. A launcher takes its sizes, warps and stages from the
entry, so that what is tested is what runs. Data types of a signature may differ at run time (bf16, fp16, fp32 inputs).

Multiply-add contraction is off everywhere: two roundings stay two roundings, and the bits do not depend on the version
of Triton, whose default is about to change (Triton 3.9 says so when it compiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import triton

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
"""True where TRITON_INTERPRET=1 was set when triton was imported: kernels run in numpy, on a CPU."""


class Configuration(NamedTuple):
    """A kernel, the types of its arguments, its constants and how it is compiled.

    signature: {argument: type} without the constants; "*bf16", "*fp32", "*u8", "*fp8e4nv", "i32", "fp32".
    constexprs: {argument: value} of the tl.constexpr arguments; EMULATE is False here.
    products: tensor-core instructions must be there.
    max_registers: of a thread, where the compiler would take so many that too few threads fit.
    any_size: integer arguments that need not be multiples of 16; Triton finds the others' alignment out at a launch.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    num_warps: int
    num_stages: int
    products: bool = False
    max_registers: int | None = None
    any_size: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The compiler's options, as keywords of a launch."""
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": False}
        if self.max_registers is not None:
            options["maxnreg"] = self.max_registers
        return options
