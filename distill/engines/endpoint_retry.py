"""What can go wrong with one request to an endpoint, and whether it is asked again.

    failure = of_status(429, body, headers)
    failure.kind, failure.action, backoff_seconds(attempt, failure.retry_after, jitter=random())

    action     kinds                                                     what follows
    "wait"     rate_limited, overloaded, unreachable                     asked again, as often as it takes
    "retry"    server_error, reset, stalled, malformed, truncated, wrong_n   asked again, `max_attempts` times in all
    "give_up"  rejected, content_filter                                  recorded; the other requests go on
    "stop"     unauthorised, not_found, out_of_budget, redirected        the run ends: every request would fail

Not covered: lowering concurrency (`endpoint_load.py`), choosing another replica (`endpoint_replicas.py`).
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any, Literal

Action = Literal["wait", "retry", "give_up", "stop"]

ACTIONS: dict[str, Action] = {
    "rate_limited": "wait",
    "overloaded": "wait",
    "unreachable": "wait",
    "server_error": "retry",
    "reset": "retry",
    "stalled": "retry",
    "malformed": "retry",
    "truncated": "retry",
    "wrong_n": "retry",
    "rejected": "give_up",
    "content_filter": "give_up",
    "unauthorised": "stop",
    "not_found": "stop",
    "out_of_budget": "stop",
    "redirected": "stop",
}
REFUSALS = ("rate_limited", "overloaded")
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, LONGEST_RETRY_AFTER_SECONDS = 0.5, 30.0, 300.0

_BY_STATUS = {
    401: "unauthorised", 402: "out_of_budget", 403: "unauthorised", 404: "not_found", 405: "not_found",
    408: "server_error", 409: "server_error", 425: "server_error", 429: "rate_limited", 503: "overloaded",
    529: "overloaded",
}  # fmt: skip


class EndpointFailure(Exception):
    """One attempt of one request failed; `str()` is one line, without secrets."""

    def __init__(self, kind: str, detail: str, *, retry_after: float | None = None, status: int | None = None):
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.retry_after, self.status = kind, detail, retry_after, status

    @property
    def action(self) -> Action:
        return ACTIONS[self.kind]


def of_status(status: int, body: str, headers: Mapping[str, str]) -> EndpointFailure:
    """The failure that an HTTP status other than 200 means."""
    detail = f"HTTP {status}: {message_of(body)}"
    if 300 <= status < 400:
        return EndpointFailure("redirected", f"HTTP {status} to {headers.get('Location', '?')}", status=status)
    kind = _BY_STATUS.get(status, "server_error" if status >= 500 else "rejected")
    if kind == "rate_limited" and "insufficient_quota" in body:
        kind = "out_of_budget"
    return EndpointFailure(kind, detail, retry_after=retry_after_seconds(headers), status=status)


def of_error_event(error: Any) -> EndpointFailure:
    """The failure that an `error` object inside a stream means; vLLM and OpenRouter send them after HTTP 200."""
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else 500
    return of_status(status if status >= 400 else 500, json.dumps({"error": error}), {})


def message_of(body: str) -> str:
    """The error message in a body, on one ASCII line; whatever is there where the body is no JSON.

    At full length: the client shortens it once the key is blotted out, lest half a key be left at the cut.
    """
    try:
        data = json.loads(body)
        error = data.get("error", data) if isinstance(data, dict) else data
        text = error.get("message", error) if isinstance(error, dict) else error
    except ValueError:
        text = body
    line = " ".join(str(text).split())
    return line.encode("ascii", "replace").decode() or "no message"


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After (seconds or a date) or retry-after-ms, at most five minutes; None where absent or unreadable."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return _bounded(float(milliseconds) / 1000)
        value = headers.get("Retry-After")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return _bounded(float(value))
        return _bounded(email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def backoff_seconds(attempt: int, retry_after: float | None, jitter: float) -> float:
    """How long a request waits after its `attempt`-th failure (from 1); `jitter` in [0, 1) spreads the crowd.

    A server's own Retry-After is kept to, with up to a tenth more.
    """
    if retry_after is not None:
        return retry_after * (1 + 0.1 * jitter)
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt - 1, 16))
    return longest * (0.5 + 0.5 * jitter)
