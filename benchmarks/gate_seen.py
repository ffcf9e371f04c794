"""Four gates on real input, as a user runs them: benchmarks/gate_seen.json and the last table of docs/gates.md.

    python benchmarks/gate_seen.py --run runs/quickstart --smollm MODEL --gsm8k gsm8k-test.jsonl --out runs/seen
    python benchmarks/gate_seen.py --page           # the table again, from the JSON

--run is a finished quickstart. MODEL is SmolLM2-135M-Instruct, a folder of safetensors or the address of a server;
gsm8k-test.jsonl has GSM8K's 1,319 test problems (id, problem, answer).
Samples are in --out: a run that is stopped goes on, and a second one draws nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from distill import provenance

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "gate_seen.json"
PAGE = ROOT / "docs" / "gates.md"
BEGIN, END = "<!-- gate seen: begin -->", "<!-- gate seen: end -->"
SERVER = ROOT / "tests" / "engines" / "misbehaving_server.py"
MAX_NEW_TOKENS = 320
"""As the quickstart's evaluation."""
NOISE = 0.2
"""Added to every weight matrix, in units of its own standard deviation."""
SMOLLM_MAX_NEW_TOKENS = 512
Row = dict[str, Any]


def gate(name: str, out: Path, *arguments: str) -> Row:
    """One gate through the command line, in a process of its own."""
    command = [sys.executable, "-m", "distill", "gate", name, "--out", str(out), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, check=False)
    verdict = json.loads((out / "gate" / "verdict.json").read_text())
    assert verdict["exit_code"] == done.returncode, (verdict["exit_code"], done.returncode)
    return {
        "gate": name,
        "outcome": verdict["outcome"],
        "exit_code": done.returncode,
        "n_items": verdict["n_items"],
        "stopped_by": verdict["stopped_by"],
        "reasons": verdict["reasons"],
        "comparisons": [
            {key: row[key] for key in ("label", "outcome", "student", "needed", "rounds", "cap_rounds")}
            for row in verdict["comparisons"]
        ],
        "models": {
            who: {key: figures[key] for key in ("model", "params", "rounds", "completion_tokens")}
            for who, figures in verdict["models"].items()
        },
    }


def damaged(student: Path, into: Path) -> Path:
    """A copy of the student whose matrices carry seeded noise."""
    if not into.exists():
        shutil.copytree(student, into, ignore=shutil.ignore_patterns("checkpoint*"))
        generator = torch.Generator().manual_seed(1)
        for path in sorted(into.glob("*.safetensors")):
            weights = load_file(path)
            for name, weight in weights.items():
                if weight.ndim == 2:
                    noise = torch.randn(weight.shape, generator=generator)
                    weights[name] = (weight.float() + NOISE * weight.float().std() * noise).to(weight.dtype)
            save_file(weights, path, metadata={"format": "pt"})
    return into


@contextmanager
def one_completion_server() -> Iterator[str]:
    """A server on loopback that gives one completion of a prompt, whatever the seed."""
    command = [sys.executable, str(SERVER), json.dumps({"same": "seed", "context": 4096, "pieces": 40})]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def on_tiny(student: str, out: Path, run: Path, *more: str) -> Row:
    """The quickstart's gate from an empty directory: every sample is drawn."""
    return gate(
        "quickstart",
        out,
        *(["--model", student] if student else []),
        *["--other", f"base={ROOT / 'students' / 'tiny'}", "--other", f"teacher={ROOT / 'teachers' / 'tiny'}"],
        *["--trained-on", str(run / "dataset"), "--set", f"gate.sampling.max_new_tokens={MAX_NEW_TOKENS}"],
        *more,
    )


def smollm(model: str, data: Path, out: Path) -> Row:
    return gate(
        "o1-mini-gsm8k",
        out,
        *["--base-url" if model.startswith("http") else "--model", model, "--set", f"data.gsm8k={data}"],
        *["--set", f"gate.sampling.max_new_tokens={SMOLLM_MAX_NEW_TOKENS}"],
    )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    run, out = arguments.run.resolve(), arguments.out.resolve()
    rows: dict[str, Row] = {"quickstart student": on_tiny(str(run / "student"), out / "good", run)}
    rows["the same, weights damaged"] = on_tiny(str(damaged(run / "student", out / "damaged")), out / "bad", run)
    with one_completion_server() as url:
        rows["a server with one completion for every seed"] = on_tiny("", out / "repeats", run, "--base-url", url)
    if arguments.smollm is not None:
        rows["SmolLM2-135M-Instruct"] = smollm(arguments.smollm, arguments.gsm8k.resolve(), out / "smollm")
    return {
        "cases": rows,
        "noise": NOISE,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        **provenance.commit(),
    }


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| student | gate | verdict | score, needed | rounds | samples | tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in result["cases"].items():
        scores = "; ".join(f"{row['student']:.3f}, {row['needed']:.3f}" for row in case["comparisons"]) or "not scored"
        rounds = max((row["rounds"] for row in case["comparisons"]), default=0)
        samples = sum(figures["rounds"] for figures in case["models"].values()) * case["n_items"]
        tokens = sum(figures["completion_tokens"] for figures in case["models"].values())
        verdict = f"{case['outcome']} (exit {case['exit_code']})"
        lines.append(f"| {name} | {case['gate']} | {verdict} | {scores} | {rounds} | {samples:,} | {tokens:,} |")
    said = [f"- {name}: {reason}" for name, case in result["cases"].items() for reason in case["reasons"]]
    return "\n".join([*lines, "", "What each said:", "", *said])


def write_page(result: dict[str, Any]) -> None:
    """The table into docs/gates.md, between its marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--smollm")
    parser.add_argument("--gsm8k", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if not arguments.page:
        RESULT.write_text(json.dumps(measure(arguments), indent=1) + "\n")
    write_page(json.loads(RESULT.read_text()))


if __name__ == "__main__":
    main()
