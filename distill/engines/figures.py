"""What an engine can say of itself while it samples: slots filled, slots there are, failures so far.

    figures = engine.live()      # an engine that has slots; others have no such method

Not covered: how it is shown (`distill/harvest/progress.py`), and the account after the end (`EndpointEngine.report`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """A moment of a sampling engine."""

    slots_busy: int
    """Requests that are sent and unfinished."""
    slots: int
    """Requests that may be sent and unfinished at this moment: an overloaded server takes fewer than its ceiling."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed attempts by kind (`distill/engines/endpoint_retry.py`); most were made good by another attempt."""
