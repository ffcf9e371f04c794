"""One verifier process: reads (problem, sample) from its pipe, answers with a verdict, until the pipe closes.

Started by `pool.py` with `python -c`, not by `multiprocessing`: so it never imports the caller's `__main__` (a
notebook, a command line), and a caller needs no `if __name__` guard.

For each item it says "started" once libraries are loaded, so that loading does not count against the limit, then
"done". A kernel timer ends it shortly after the limit even if the parent is gone.
Not covered: model-written code, which a verifier hands to `sandbox.py`.
"""

from __future__ import annotations

import contextlib
import signal
from multiprocessing.connection import Connection
from typing import Any

from distill.errors import DistillError
from distill.records import Problem, Sample
from distill.verify.base import verifier, verify

GRACE_SECONDS = 1.0
"""How long after the limit the kernel ends a process that its parent did not."""


def main(descriptor: int, timeout_seconds: float, memory_limit_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal group; the parent decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _limit_memory(memory_limit_bytes)
    pipe = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            _answer(pipe, *pipe.recv(), timeout_seconds=timeout_seconds)


def _answer(pipe: Connection[Any, Any], problem: Problem, sample: Sample, *, timeout_seconds: float) -> None:
    try:
        with contextlib.suppress(Exception):  # verify meets it again, and says so
            verifier(problem.verifier).prepare(problem)
        pipe.send(("started", None))
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds + GRACE_SECONDS)
        verdict = verify(problem, sample)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(("done", verdict))
    except DistillError as error:
        pipe.send(("refused", error))


def _limit_memory(limit_bytes: int) -> None:
    """Cap the address space: 10^{10^{10}} asks for memory before it runs out of time."""
    import resource

    with contextlib.suppress(ValueError, OSError):  # not every system allows it
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
