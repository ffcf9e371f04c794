"""Runs a script of this folder in a process of its own, where Triton's kernels are interpreted on the CPU.

TRITON_INTERPRET=1 has to be set before triton is imported, so the tests themselves cannot do it.
"""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def interpreted_lines(script: str) -> list[str]:
    """Lines that the script printed; it must end well."""
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-W", "ignore", str(FOLDER / script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout.splitlines()
