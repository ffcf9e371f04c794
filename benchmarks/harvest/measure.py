"""Figures of one run of one client, from the server's log, the client's process and the rows it kept.

The window runs from the first request of the harvest to the server's last answer. What a client asks of one problem
again and again before it asks any other (a pre-flight probe) is no part of the window, but counts as served, and as
wasted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harvest.traces import content_of, digest, reasoning_of

Entry = Mapping[str, Any]


def harvest_entries(entries: Sequence[Entry]) -> list[Entry]:
    """The log without the probes: they ask one problem several times, before any other is asked."""
    first = entries[0]["problem"] if entries else None
    other = next((at for at, entry in enumerate(entries) if entry["problem"] != first), len(entries))
    return list(entries[max(0, other - 1) :])


def accepted(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry["outcome"] in ("finished", "aborted")]


def window(entries: Sequence[Entry]) -> tuple[float, float]:
    """First arrival and last answer. Raises: ValueError where nothing was asked."""
    harvest = harvest_entries(entries)
    return min(e["arrived"] for e in harvest), max(e["ended"] for e in harvest if e["ended"] is not None)


def server_figures(entries: Sequence[Entry], slots: int, ideal_seconds: float, work_seconds: float) -> dict[str, Any]:
    """Rates and occupancy over the window; `work_seconds` is the sum of the latencies of all rows."""
    start, end = window(entries)
    inside = accepted(harvest_entries(entries))
    area = sum(entry["ended"] - entry["arrived"] for entry in inside)
    wall = max(end - start, 1e-9)
    allowed = work_seconds / (slots * ideal_seconds)
    late = sorted(max(0.0, e["ended"] - e["due"]) for e in inside if e["outcome"] == "finished")
    used = min(area, work_seconds) / (slots * wall)  # a late answer fills a slot without doing anything in it
    return {
        "seconds": round(wall, 3),
        "requests_per_second": round(sum(e["outcome"] == "finished" for e in inside) / wall, 1),
        "occupancy": round(used, 4),
        "occupancy_allowed": round(allowed, 4),
        "occupancy_of_allowed": round(used / allowed, 4),
        "most_in_flight": most_in_flight(inside),
        "server_late_p99_seconds": round(late[int(0.99 * (len(late) - 1))], 4) if late else None,
    }


def most_in_flight(entries: Sequence[Entry]) -> int:
    changes = sorted((when, change) for e in entries for when, change in ((e["arrived"], 1), (e["ended"], -1)))
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def counts(entries: Sequence[Entry]) -> dict[str, Any]:
    """How many requests and tokens the server spent."""
    took = accepted(entries)
    probes = sum(e["n"] for e in entries[: len(entries) - len(harvest_entries(entries))])
    return {
        "served": sum(e["n"] for e in took),
        "refused": sum(e["outcome"] == "refused" for e in entries),
        "aborted": sum(e["outcome"] == "aborted" for e in took),
        "probes": probes,
        "continued": sum(e["from_token"] > 0 for e in took),
        "tokens_served": sum(e["tokens"] for e in took),
    }


def kept_rows(report: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """What a client's `rows` says, held against what the server sends: whole rows, and those without reasoning."""
    found = {int(number): digests for number, digests in report["rows"].items()}
    right = {at for at in range(rows) if at in found and found[at][1] == digest(content_of(at))}
    whole = {at for at in right if found[at][0] == digest(reasoning_of(at))}
    return {
        "kept": len(right),
        "with_reasoning": len(whole),
        "wrong": len(found) - len(right),
        "duplicates": report["duplicates"],
        "unreadable": report["unreadable"],
    }
