"""Compile a kernel for a GPU that is not there and read what came out.

    compiled = compile_ahead(configuration, 90)    # 100 for Blackwell
    compiled.registers, compiled.spills, compiled.shared_bytes, compiled.tensor_core, compiled.ptx, compiled.sass

Triton's wheel carries the assembler and the disassembler, so this runs on any x86-64 Linux. It shows instructions,
registers, spills and shared memory; it does not show speed. Not for a process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from distill.fp8.kernels.configuration import INTERPRETED, Configuration

SHARED_LIMIT_BYTES = 232448
"""227 KB: what one thread block can have on sm_90 and sm_100 (CUDA C++ programming guide, compute capabilities)."""

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_TENSOR_CORE = {90: re.compile(r"\b(QGMMA|HGMMA|WGMMA)"), 100: re.compile(r"\bUTC\w*MMA")}
_SPILL = re.compile(r"^\s*(?:/\*[0-9a-f]+\*/)?\s*(?:@!?U?P\w+\s+)?(?:LDL|STL)\b", re.MULTILINE)


class Compiled(NamedTuple):
    """What the compiler made; `spills` counts the loads from and stores to local memory."""

    ptx: str
    sass: str
    registers: int
    spills: int
    shared_bytes: int
    tensor_core: bool


def compile_ahead(configuration: Configuration, capability: int, aligned: bool = True) -> Compiled:
    """The configuration for sm_90 or sm_100.

    aligned: pointers, and integers that are not in `any_size`, are multiples of 16, which Triton finds out at a launch
    and uses for wide accesses.
    """
    assert not INTERPRETED, "TRITON_INTERPRET=1 replaces the kernels; compile in a process without it"
    names = configuration.kernel.arg_names
    missing = set(names) ^ (set(configuration.signature) | set(configuration.constexprs))
    assert not missing, f"{configuration.name}: arguments {sorted(missing)} are not in both kernel and configuration"
    types = {name: configuration.signature.get(name, "constexpr") for name in names}
    sizes = [name for name in names if types[name] in ("i32", "i64") and name not in configuration.any_size]
    divisible = [name for name in names if types[name].startswith("*")] + sizes
    source = ASTSource(
        fn=configuration.kernel,
        signature=types,
        constexprs={(names.index(name),): value for name, value in configuration.constexprs.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in divisible} if aligned else {},
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=configuration.options)
    sass, registers = _disassembled(kernel.asm["cubin"])
    return Compiled(
        ptx=kernel.asm["ptx"],
        sass=sass,
        registers=registers,
        spills=len(_SPILL.findall(sass)),
        shared_bytes=kernel.metadata.shared,
        tensor_core=_TENSOR_CORE[capability].search(sass) is not None,
    )


def _disassembled(cubin: bytes) -> tuple[str, int]:
    """(SASS, registers of a thread) of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _output("cuobjdump", "-res-usage", file.name)
        sass = _output("cuobjdump", "-sass", file.name)
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None, f"cuobjdump -res-usage printed no registers: {usage[:500]}"
    return sass, int(registers.group(1))


def _output(tool: str, *arguments: str) -> str:
    """What a tool of Triton's wheel prints; it finds its own helpers (nvdisasm) beside it."""
    environment = {"PATH": f"{_TOOLS}:/usr/bin:/bin"}
    command = [str(_TOOLS / tool), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout
