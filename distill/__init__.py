"""Reasoning distillation: harvest traces of a teacher, keep what verifies, train a student, gate it.

    import distill
    run = distill.Run.open("tiny/quickstart", out="runs/quickstart")
    run.harvest(); run.curate(); run.train(); run.evaluate(); run.gate(); run.report()
    distill.GateStage(distill.load_gate("o1-mini"), Path("runs/g"), distill.GateModels(model="my/student")).run()

Importing this package is free: no torch, no network, no environment reading. Names below load on first use.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["GateModels", "GateStage", "Run", "load_gate", "load_recipe", "load_student", "load_teacher"]

_HOMES = {
    "GateModels": "distill.gate_stage",
    "GateStage": "distill.gate_stage",
    "load_gate": "distill.gate.spec",
    "Run": "distill.run",
    "load_recipe": "distill.recipes",
    "load_student": "distill.cards",
    "load_teacher": "distill.cards",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'distill' has no attribute '{name}'; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
