"""docs/harvest-peers.md's tables from results.json."""
from __future__ import annotations
from typing import Any
def write(result: dict[str, Any]) -> None:
    pass
