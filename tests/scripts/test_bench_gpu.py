"""scripts/bench_gpu.sh without a GPU: it says so and measures nothing; as a toy, every part of it runs.

A machine with a GPU runs the script itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import run as program
from benchmarks.gpu import table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "gpu"
QUICK = ("attention", "quantize", "products", "layer")


def call(*arguments, **environment):
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "bench_gpu.sh"), *arguments],
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )


def recorded():
    return {path.name: path.read_bytes() for path in [*RESULTS.glob("*.json"), *RESULTS.glob("*.md")]}


def test_without_a_gpu_it_says_so_and_exits_6(tmp_path):
    before = recorded()
    done = call(OUT=str(tmp_path))
    assert done.returncode == program.NO_GPU
    assert done.stderr.strip() == program.NO_GPU_TEXT
    assert done.stdout == ""
    assert recorded() == before and not list(tmp_path.iterdir())


def test_a_python_without_torch_has_no_gpu_either(tmp_path):
    without = tmp_path / "python"
    without.write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" -S -I "$@"\n')
    without.chmod(0o755)
    done = call(PYTHON=str(without))
    assert done.returncode == 6
    assert "has no torch" in done.stderr


def test_wrong_arguments_exit_2():
    assert program.main(["--device", "cpu", "--toy", "somewhere", "--parts", "speed"]) == 2
    assert program.main(["--device", "cpu"]) == 2


def run_toy(folder, parts):
    before = recorded()
    done = call("--device", "cpu", "--toy", str(folder), "--parts", ",".join(parts), OUT=str(folder / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert recorded() == before
    assert [path.name for path in folder.iterdir()] == ["cpu.json"]
    data = json.loads((folder / "cpu.json").read_text())
    assert data["toy"] is True
    assert data["failures"] == []
    assert list(data["parts"]) == list(parts)
    assert all(part["complete"] and part["rows"] for part in data["parts"].values())
    return data


def test_the_quick_parts_run_as_a_toy(tmp_path):
    data = run_toy(tmp_path, [plan.name for plan in program.PLANS if plan.name in QUICK])
    kernels = {row["kernel"] for row in data["parts"]["quantize"]["rows"]}
    assert {"quantize_both", "rms_norm_quantize", "swiglu_backward_quantize"} <= kernels
    rows = data["parts"]["products"]["rows"]
    assert {(row["linear"], row["kind"]) for row in rows} == {
        (linear, kind) for linear in ("qkv", "o", "gate_up", "down") for kind in ("fprop", "dgrad", "wgrad")
    }
    assert all(set(row["tflops"]) == {"bf16", "tensorwise", "emulation"} for row in rows)
    assert table.skinny_line(data).startswith("SKINNY_BELOW that follows: no size")
    text = table.table(data)
    assert "no number below means anything" in text
    assert all(f"| {row['kernel']} |" in text for row in data["parts"]["quantize"]["rows"])


@pytest.mark.slow
def test_the_parts_that_train_run_as_a_toy(tmp_path):
    data = run_toy(tmp_path, ["correctness", "step-1.5B", "step-7B", "compiled"])
    assert all(row["passed"] for row in data["parts"]["correctness"]["rows"])
    rows = data["parts"]["step-1.5B"]["rows"]
    found = {(row["tokens"], row["recompute"], row["variant"]) for row in rows}
    main = ("fast", "bf16", "stock")
    assert found == {(192, False, variant) for variant in (*main, "small", "accurate")} | {
        (320, True, variant) for variant in main
    }
    assert not [row for row in rows if "left_out" in row]
    assert {row["weight_copy_bytes"] > 0 for row in rows if row["variant"] == "bf16" and not row["recompute"]} == {True}
    assert {row["layers"] for row in data["parts"]["step-7B"]["rows"]} == {1, 2}
    basis = {target["target"].split(",")[0]: target["basis"] for target in data["targets"]}
    assert basis["step time of 7B at 16k"].startswith("4 layers put together from slices of 1 and 2")
    text = table.table(data)
    assert text.count("| fast |") == 5 + 1
    assert "small model trains alike | passed" in text


def test_imports_need_only_what_a_gpu_machine_has():
    """torch, triton and transformers; this package's other requirements are made impossible to import."""
    absent = ("pydantic", "datasets", "deepspeed", "pytest", "yaml", "lm_eval", "typer", "trl", "matplotlib", "pyarrow")
    modules = [f"benchmarks.gpu.{path.stem}" for path in RESULTS.glob("*.py") if path.stem != "__init__"]
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\nimport importlib\nimport distill.fp8\n"
    code += f"for name in {modules!r}: importlib.import_module(name)\n"
    code += "print(*sorted(name for name in sys.modules if name.startswith('distill') and 'fp8' not in name))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["distill"]
