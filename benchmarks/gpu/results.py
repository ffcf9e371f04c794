"""The results of a run as they grow: one JSON file, written after every row, so that a kill loses nothing.

    results = Results(path, header)
    part = results.begin("quantize", seconds=40)
    part.add(kernel="quantize_rows", ...)
    part.finish()

A part carries its own date and commit: with `--keep`, parts of an earlier run of the same device stay in the file.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
_CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.draw,power.limit,temperature.gpu,driver_version"


class Part:
    """One part of a run: rows, notes, and the time it may still take."""

    def __init__(self, results: Results, name: str, deadline: float) -> None:
        self.results, self.name, self.deadline = results, name, deadline
        self.started = time.monotonic()
        self.data: dict[str, Any] = {
            "date": now(),
            "commit": results.data["commit"],
            "sources_sha256": results.data["sources_sha256"],
            "complete": False,
            "seconds": 0.0,
            "rows": [],
            "notes": [],
        }
        results.data["parts"][name] = self.data

    def left(self) -> float:
        """Seconds of its budget that are left."""
        return self.deadline - time.monotonic()

    def add(self, **row: Any) -> None:
        self.data["rows"].append(row)
        self._save()

    def note(self, text: str) -> None:
        """Say what was left out and why; printed too."""
        self.data["notes"].append(text)
        print(f"  note: {text}", flush=True)
        self._save()

    def has_time(self, what: str, seconds: float = 0.0) -> bool:
        """Whether so many seconds are left; a note says what is skipped where they are not."""
        if self.left() >= seconds:
            return True
        self.note(f"{what}: skipped, the time of this part is spent")
        return False

    def finish(self) -> None:
        self.data["complete"] = True
        self._save()

    def _save(self) -> None:
        self.data["seconds"] = round(time.monotonic() - self.started, 1)
        self.results.save()


class Results:
    """The whole file, and the table beside it."""

    def __init__(self, path: Path, header: dict[str, Any], *, keep: bool = False) -> None:
        self.path = path
        self.data = {**header, "targets": [], "failures": [], "parts": {}}
        if keep and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if (before["device"], before["versions"]) == (header["device"], header["versions"]):
                self.data["parts"] = before["parts"]

    def begin(self, name: str, deadline: float) -> Part:
        print(f"== {name}", flush=True)
        return Part(self, name, deadline)

    def fail(self, what: str) -> None:
        """Something was wrong: the run goes on, and ends with an exit status that is not 0."""
        self.data["failures"].append(what)
        print(f"  FAILED: {what}", flush=True)
        self.save()

    def save(self) -> None:
        """JSON, and for a device that exists the table; copies of both go to $OUT."""
        from benchmarks.gpu.table import table
        from benchmarks.gpu.targets import judge

        self.data["targets"] = judge(self.data)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _write(self.path, json.dumps(self.data, indent=1, ensure_ascii=True) + "\n")
        if self.data["toy"]:
            return
        _write(self.path.with_suffix(".md"), table(self.data))
        out = os.environ.get("OUT")
        if out:
            for path in (self.path, self.path.with_suffix(".md")):
                shutil.copyfile(path, Path(out) / path.name)


def header(device: torch.device, toy: bool) -> dict[str, Any]:
    """What was measured, on what, with what."""
    properties = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "toy": toy,
        "device": properties.name if properties else "cpu",
        "capability": f"{properties.major}.{properties.minor}" if properties else None,
        "memory_gib": round(properties.total_memory / 2**30, 1) if properties else None,
        "multiprocessors": properties.multi_processor_count if properties else None,
        "clocks_before": clocks() if properties else {},
        "date": now(),
        "commit": commit(),
        "sources_sha256": sources_sha256(),
        "versions": versions(),
    }


def file_name(device_name: str) -> str:
    """nvidia-h200.json of 'NVIDIA H200'."""
    return "-".join("".join(c if c.isalnum() else " " for c in device_name.lower()).split()) + ".json"


def versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {"python": sys.version.split()[0], "cuda": torch.version.cuda}
    found["cudnn"] = str(torch.backends.cudnn.version())
    for package in ("torch", "triton", "transformers", "accelerate", "peft", "torchao"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def clocks() -> dict[str, str]:
    """What nvidia-smi says of the first GPU; read only."""
    command = ["nvidia-smi", f"--query-gpu={_CLOCKS}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = done.stdout.splitlines()[0].split(", ") if done.stdout else []
    return dict(zip(_CLOCKS.split(","), values, strict=False))


def commit() -> str | None:
    """BENCH_COMMIT, or git's; None in a copy without .git, where `sources_sha256` tells what ran."""
    if os.environ.get("BENCH_COMMIT"):
        return os.environ["BENCH_COMMIT"]
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def sources_sha256() -> str:
    """Of distill/fp8 and this folder: names and contents in order."""
    digest = hashlib.sha256()
    for folder in ("distill/fp8", "benchmarks/gpu"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
