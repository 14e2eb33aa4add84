"""Keeps the connections to a model's server open for the next calls.

httpx's own pool looks at each of its connections for each other one, whenever a request begins or ends: with 256 idle
ones a call took 40 to 130 ms of CPU, many times what a TLS handshake takes. Here each connection is a pool of its own.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import httpx

# Less than the 60 s after which load balancers begin to close idle connections. Some servers close them after 5 s.
KEEP_IDLE_SECONDS = 45.0
# A connection that was closed while it was idle fails within a round trip. A server that breaks off later than this has
# begun to work on the request.
CLOSED_WHILE_IDLE_SECONDS = 2.0
ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)


class ReusedConnections(httpx.AsyncBaseTransport):
    """A transport without a limit on connections: a request gets the one that was used last, or a new one.

    So there are never more than there were requests at the same time, and all of them are kept for 45 s.

    A request is sent a second time, on a new connection, if the server closed the connection just as it was sent again
    on it. Use it only for requests that may be repeated, such as model calls.

    Args:
        verify: the certificates that are trusted.
        proxy: the URL of the proxy to use, None for none.
    """

    def __init__(self, *, verify: ssl.SSLContext, proxy: str | None = None) -> None:
        self._verify = verify
        self._proxy = proxy
        self._idle: deque[_Idle] = deque()  # the longest idle first
        self._closed = False
        if proxy is not None:
            self._new()  # raises what is wrong with the proxy's URL

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            httpx.HTTPError: there is no connection, or it broke.
        """
        await self._close_expired()
        # The last one first: it is the least likely to be closed by now, and those that are not needed expire.
        connection = self._idle.pop().connection if self._idle else self._new()
        try:
            response = await _send(connection, request)
        except BaseException:
            await connection.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Body(response.stream, on_closed=lambda: self._give_back(connection))
        return response

    async def aclose(self) -> None:
        """Close the connections, those in use when they are given back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().connection.aclose()

    def _new(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(verify=self._verify, proxy=self._proxy, limits=ONE_CONNECTION)

    async def _give_back(self, connection: httpx.AsyncHTTPTransport) -> None:
        if self._closed:
            await connection.aclose()
        else:
            self._idle.append(_Idle(connection, time.monotonic()))

    async def _close_expired(self) -> None:
        oldest = time.monotonic() - KEEP_IDLE_SECONDS
        while self._idle and self._idle[0].since < oldest:
            await self._idle.popleft().connection.aclose()


class _Idle(NamedTuple):
    """A connection, which the server may have closed, and the monotonic time since when it is idle."""

    connection: httpx.AsyncHTTPTransport
    since: float


class _Body(httpx.AsyncByteStream):
    """A response's body, which gives the connection back when it is closed."""

    def __init__(self, body: httpx.AsyncByteStream, *, on_closed: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._on_closed = on_closed
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                # Of a body that was not read to its end, this closes the connection.
                await self._body.aclose()
            finally:
                await self._on_closed()


async def _send(connection: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
    """Send a request, and once more if the connection was an old one that the server was just closing."""
    is_new = False

    async def note(event: str, details: Mapping[str, Any]) -> None:
        nonlocal is_new
        is_new = is_new or event.startswith("connection.connect_")

    request.extensions = {**request.extensions, "trace": note}
    began = time.monotonic()
    try:
        return await connection.handle_async_request(request)
    except (httpx.RemoteProtocolError, httpx.ReadError):
        # httpx sees a connection that was closed before, but not one whose end is still under way.
        if is_new or time.monotonic() - began > CLOSED_WHILE_IDLE_SECONDS:
            raise
    return await connection.handle_async_request(request)
