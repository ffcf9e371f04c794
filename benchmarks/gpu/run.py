"""Measure FP8 training on this machine's GPU; scripts/bench_gpu.sh says how it is called and what comes of it.

    python -m benchmarks.gpu.run [--parts a,b] [--seconds 500] [--keep]
    python -m benchmarks.gpu.run --device cpu --toy FOLDER      # every line of it on a CPU; its numbers mean nothing

Exit status: 0; 1 if something is wrong on this device (results are written all the same); 2 for wrong arguments; 6
without a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

NO_GPU = 6
NO_GPU_TEXT = (
    "bench_gpu: no CUDA device is here, so nothing was measured and no figure is printed. Run it on a machine with an "
    "NVIDIA GPU of compute capability 8.9 or later."
)


class Plan(NamedTuple):
    """A part and its share of the time."""

    name: str
    seconds: float


PLANS = (
    Plan("correctness", 75),
    Plan("attention", 20),
    Plan("quantize", 30),
    Plan("products", 45),
    Plan("step-1.5B", 115),
    Plan("step-7B", 95),
    Plan("layer", 30),
    Plan("step-32B", 40),
    Plan("step-14B", 30),
    Plan("compiled", 20),
)
"""In order of importance; what a part leaves of its time goes to those after it."""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    unknown = [name for name in _wanted(options) if name not in [plan.name for plan in PLANS]]
    if unknown:
        print(f"--parts: no part {unknown[0]}; there are {', '.join(plan.name for plan in PLANS)}.", file=sys.stderr)
        return 2
    if options.device == "cpu" and not options.toy:
        print("--device cpu: only with --toy FOLDER; a CPU has no figures to give.", file=sys.stderr)
        return 2
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU_TEXT, file=sys.stderr)
        return NO_GPU
    return _run(options, torch.device(options.device))


def _run(options: argparse.Namespace, device: object) -> int:
    import torch

    from benchmarks.gpu import attention
    from benchmarks.gpu.results import Results, clocks, file_name, header
    from benchmarks.gpu.shapes import Setting
    from benchmarks.gpu.table import closing, table
    from distill.fp8.matmul import self_check

    assert isinstance(device, torch.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    folder = Path(options.toy) if options.toy else Path(__file__).parent
    head = header(device, bool(options.toy))
    refused = {name: reason for name, reason in self_check(device).items() if reason}
    setting = Setting(device, toy=bool(options.toy), allow_fallback=bool(refused))
    results = Results(folder / file_name(head["device"]), head, keep=options.keep)
    results.data |= {"row_tokens": setting.row_tokens, "products_refused": refused}
    attention.register()
    _parts(options, setting, results)
    results.data["clocks_after"] = clocks() if device.type == "cuda" else {}
    results.save()
    if not options.toy:
        print(f"\n{table(results.data)}\n{closing(results.data)}")
    print(f"written: {results.path.name}", flush=True)
    return 1 if results.data["failures"] else 0


def _parts(options: argparse.Namespace, setting: object, results: object) -> None:
    """Each part in its turn; one that breaks is recorded, and the others still run."""
    from benchmarks.gpu.results import Results
    from benchmarks.gpu.shapes import Setting

    assert isinstance(setting, Setting) and isinstance(results, Results)
    wanted = _wanted(options)
    plans = [plan for plan in PLANS if not wanted or plan.name in wanted]
    deadline, scale = time.monotonic(), options.seconds / sum(plan.seconds for plan in plans)
    for plan in plans:
        deadline += plan.seconds * scale
        size = plan.name.removeprefix("step-")
        if size != plan.name and size not in setting.students:
            continue
        part = results.begin(plan.name, deadline)
        try:
            _runner(plan.name)(part, setting)
        except Exception as error:  # one part's fault is recorded and fails the run; it takes no other part with it
            reason = (str(error).splitlines() or [""])[0][:300]
            results.fail(f"{plan.name}: {type(error).__name__}: {reason}")
        else:
            part.finish()


def _runner(name: str) -> Callable[..., object]:
    from benchmarks.gpu import attention, compiled, correctness, layer, products, quantize, step

    if name.startswith("step-"):
        return lambda part, setting: step.run(part, setting, _attention(part), name.removeprefix("step-"))
    if name in ("layer", "compiled"):
        module = layer if name == "layer" else compiled
        return lambda part, setting: module.run(part, setting, _attention(part))
    if name == "attention":
        return attention.choose
    return {"correctness": correctness.run, "quantize": quantize.run, "products": products.run}[name]


def _attention(part: object) -> str:
    """The one that was chosen, in this run or in the one whose parts were kept."""
    from benchmarks.gpu import attention
    from benchmarks.gpu.results import Part

    assert isinstance(part, Part)
    chosen = part.results.data["parts"].get("attention", {}).get("chosen", attention.FALLBACK)
    part.data["attention"] = chosen
    return str(chosen)


def _wanted(options: argparse.Namespace) -> list[str]:
    return [name for name in options.parts.split(",") if name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench_gpu", description="Measure FP8 training on this machine's GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--toy", metavar="FOLDER", default="", help="tiny sizes, JSON into this folder, no figures")
    parser.add_argument("--parts", default="", help="only these, by comma: " + ", ".join(plan.name for plan in PLANS))
    parser.add_argument("--seconds", type=float, default=500.0, help="for all parts together")
    parser.add_argument("--keep", action="store_true", help="keep the other parts of this device's file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
