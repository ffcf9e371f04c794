"""One request to one OpenAI-compatible server, over aiohttp: bodies, headers, time limits, and the key.

    async with EndpointClient(settings, max_connections=512) as client:
        completion = await client.complete(call, stream, on_accepted=lambda: ...)

Time limits follow progress: a stream may take hours, as long as text keeps coming (`idle_seconds`; before the first
piece `first_token_seconds`, because servers queue). Keep-alive comments are not progress. The API key is read from the
environment variable that the settings name, goes into one header, and is blotted out of everything a server says back.
aiohttp and not httpx: it was measured at 2.9 times the requests per second in this use, and needs less of a core.
A stream that degenerates is given up, and its connection closed, so that the server stops decoding.
Not covered: retries (`endpoint.py`), proxies and ~/.netrc (not read: a key must not go where it was not sent).
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from distill.engines.endpoint_dialect import Call
from distill.engines.endpoint_retry import EndpointFailure, of_status
from distill.engines.endpoint_stream import Completion, StreamedCompletion
from distill.errors import ConfigError
from distill.recipes import Endpoint

CONNECT_SECONDS = 30.0
QUICK_SECONDS = 30.0  # for /models
MOST_ERROR_BYTES = 65536
MOST_CHARACTERS_SHOWN = 300
SHORTEST_KEY_BLOTTED = 8  # "EMPTY" and "none" are what people write where a server wants any key


@dataclass(frozen=True, slots=True)
class Tokenized:
    """What /tokenize gives; `strings` is empty where they were not asked for."""

    tokens: list[int]
    strings: list[str]


class EndpointClient:
    """A connection pool with the key and the time limits; an async context manager."""

    def __init__(self, settings: Endpoint, *, max_connections: int):
        self._settings = settings
        self._key = api_key(settings)
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        raise_descriptor_limit(self._max_connections + 256)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers=headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def complete(
        self, call: Call, stream: StreamedCompletion | None = None, on_accepted: Callable[[], None] = lambda: None
    ) -> Completion:
        """Send a request and read its answer to the end. Raises: EndpointFailure, and nothing else.

        `stream` is where the text goes: what came before a failure is in it.
        """
        assert self._session is not None, "the client is used inside its context"
        stream = stream or StreamedCompletion(call.channel)
        try:
            async with asyncio.timeout(self._settings.first_token_seconds) as limit:
                async with self._session.post(call.url, json=call.body, allow_redirects=False) as response:
                    await self._check(response)
                    on_accepted()
                    return await self._read(response, stream, limit)
        except EndpointFailure as failure:
            raise self._blotted(failure) from None
        except TimeoutError:
            raise EndpointFailure("stalled", "no text within the time limit") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._blotted(_of_transport(error)) from None

    async def tokenize(self, base_url: str, body: dict[str, Any]) -> Tokenized:
        """What vLLM's `/tokenize`, beside `/v1`, makes of a chat or a text. Raises: EndpointFailure."""
        try:
            data = await self._quick("POST", f"{base_url.removesuffix('/v1')}/tokenize", body)
        except EndpointFailure as failure:
            if failure.kind == "not_found":  # the run need not end for it
                raise EndpointFailure("rejected", failure.detail, status=failure.status) from None
            raise
        if not isinstance(data, dict) or not isinstance(data.get("tokens"), list):
            raise EndpointFailure("rejected", "/tokenize gave no tokens")
        return Tokenized(data["tokens"], [str(each) for each in data.get("token_strs") or []])

    async def models(self, base_url: str) -> list[dict[str, Any]]:
        """What `GET /models` lists; [] where a server has no such page. Raises: EndpointFailure."""
        try:
            data = await self._quick("GET", f"{base_url}/models")
        except EndpointFailure as failure:
            if failure.status in (404, 405):
                return []
            raise
        listed = data.get("data") if isinstance(data, dict) else None
        return [entry for entry in listed or [] if isinstance(entry, dict)]

    async def _quick(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of a page that costs nothing. Raises: EndpointFailure."""
        assert self._session is not None, "the client is used inside its context"
        page = urlsplit(url).path
        try:
            async with asyncio.timeout(QUICK_SECONDS):
                async with self._session.request(method, url, json=body, allow_redirects=False) as response:
                    await self._check(response)
                    return await response.json(content_type=None)
        except EndpointFailure as failure:
            raise self._blotted(failure) from None
        except TimeoutError:
            raise EndpointFailure("unreachable", f"{page} gave no answer in {QUICK_SECONDS:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._blotted(_of_transport(error)) from None
        except ValueError:
            raise EndpointFailure("malformed", f"{page} is not JSON") from None

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status != 200:
            body = (await response.content.read(MOST_ERROR_BYTES)).decode("utf-8", "replace")
            raise of_status(response.status, body, response.headers)

    async def _read(
        self, response: aiohttp.ClientResponse, stream: StreamedCompletion, limit: asyncio.Timeout
    ) -> Completion:
        if response.content_type == "application/json":  # the server does not stream
            stream.feed_whole(await response.read())
            return stream.finish()
        pieces, loop = 0, asyncio.get_running_loop()
        moved_at, idle = -math.inf, self._settings.idle_seconds
        async for chunk in response.content.iter_any():
            stream.feed(chunk)
            if stream.degenerate is not None:
                response.close()
                return stream.aborted()
            if stream.num_pieces > pieces:
                pieces, now = stream.num_pieces, loop.time()
                if now - moved_at > idle / 64:  # a timer for every chunk costs more than reading it
                    moved_at = now
                    limit.reschedule(now + idle)
        return stream.finish()

    def without_key(self, text: str) -> str:
        """`text` as it may be written down."""
        if self._key and len(self._key) >= SHORTEST_KEY_BLOTTED and self._key in text:
            return text.replace(self._key, "[key]")
        return text

    def _blotted(self, failure: EndpointFailure) -> EndpointFailure:
        detail = self.without_key(failure.detail)[:MOST_CHARACTERS_SHOWN]
        return EndpointFailure(failure.kind, detail, retry_after=failure.retry_after, status=failure.status)


def _of_transport(error: Exception) -> EndpointFailure:
    """The failure that an exception of aiohttp means; the order follows its class tree."""
    detail = " ".join(f"{type(error).__name__}: {error}".split()).encode("ascii", "replace").decode()
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return EndpointFailure("unreachable", detail)
    if isinstance(error, aiohttp.ClientPayloadError):
        return EndpointFailure("truncated", detail)
    if isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError | OSError):
        return EndpointFailure("reset", detail)
    return EndpointFailure("malformed", detail)


def api_key(settings: Endpoint) -> str | None:
    """The key from the environment. Raises: ConfigError for one that cannot stand in a header."""
    key = os.environ.get(settings.api_key_env, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{settings.api_key_env}: the key has characters that no header may hold; set it again.")
    return key or None


def normal_url(url: str) -> str:
    """A base URL without its last slash, `/v1` added where it has no path. Raises: ConfigError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--base-url {_shown(url)}: expected http://HOST:PORT/v1 or https://HOST/v1.")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"--base-url {_shown(url)}: a user name, password or query in a URL ends up in records; put the key in "
            "the environment variable DISTILL_API_KEY."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _shown(url: str) -> str:
    """A URL without what may be a secret."""
    return url.split("?")[0].split("@")[-1].encode("ascii", "replace").decode()


def raise_descriptor_limit(wanted: int) -> None:
    """Ask for as many open files as there are connections. Raises: ConfigError where the system allows fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise ConfigError(
                f"endpoint.max_in_flight: {wanted} open files are needed, this system allows {hard}; "
                "lower it, or raise `ulimit -Hn`."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
