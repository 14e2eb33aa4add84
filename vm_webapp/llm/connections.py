"""Keeps the connections to a model's server open for the next calls.

httpx's own pool looks at each of its connections for each other one, whenever a request begins or ends: with 256 idle
ones a call took 40 to 130 ms of CPU, many times what a TLS handshake takes. Here httpcore, which speaks HTTP for httpx,
is asked for single connections, without a pool.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpcore
import httpx

from vm_webapp.llm.network import AsyncioBackend

# Less than the 60 s after which load balancers begin to close idle connections. Some servers close them after 5 s.
KEEP_IDLE_SECONDS = 45.0
# A connection that was closed while it was idle fails within a round trip. A server that breaks off later than this has
# begun to work on the request.
CLOSED_WHILE_IDLE_SECONDS = 2.0


class ReusedConnections(httpx.AsyncBaseTransport):
    """A transport without a limit on connections: a request gets the one that was used last, or a new one.

    So there are never more than there were requests at the same time, and all of them are kept for 45 s. All requests
    go to one server.

    A request is sent a second time, on a new connection, if the server closed the connection just as it was sent again
    on it. Use it only for requests that may be repeated, such as model calls.

    Args:
        verify: the certificates that are trusted.
        proxy: the URL of the proxy to use, None for none.

    Raises:
        ValueError: the proxy cannot be used.
        httpx.InvalidURL: it is not a URL.
    """

    def __init__(self, *, verify: ssl.SSLContext, proxy: str | None = None) -> None:
        # Of the pool only the choice between a direct connection and one through a proxy is used.
        self._connections = httpcore.AsyncConnectionPool(
            ssl_context=verify,
            proxy=None if proxy is None else _as_httpcore_proxy(proxy),
            network_backend=AsyncioBackend(),
        )
        self._idle: deque[_Idle] = deque()  # the longest idle first
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            httpx.HTTPError: there is no connection, or it broke.
        """
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol("the address begins with neither http:// nor https://")
        await self._close_expired()
        with _errors_of_httpx():
            connection, response = await self._send(_as_httpcore_request(request))
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response, connection, self))

    async def aclose(self) -> None:
        """Close the connections, those in use when they are given back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().connection.aclose()

    async def give_back(self, connection: httpcore.AsyncConnectionInterface) -> None:
        """Keep a connection for the next requests, unless its response was not read to the end."""
        if self._closed or not connection.is_idle():
            await connection.aclose()
        else:
            self._idle.append(_Idle(connection, time.monotonic()))

    async def _send(self, request: httpcore.Request) -> tuple[httpcore.AsyncConnectionInterface, httpcore.Response]:
        """Send a request, and once more if the connection was an old one that the server was just closing."""
        began = time.monotonic()
        if (reused := await self._usable()) is not None:
            try:
                return reused, await _send_on(reused, request)
            except (httpcore.RemoteProtocolError, httpcore.ReadError):
                if time.monotonic() - began > CLOSED_WHILE_IDLE_SECONDS:
                    raise
        new = self._connections.create_connection(request.url.origin)
        return new, await _send_on(new, request)

    async def _usable(self) -> httpcore.AsyncConnectionInterface | None:
        """Take the connection that was used last; None if there is none that the server has not closed."""
        # The last one first: it is the least likely to be closed by now, and those that are not needed expire.
        while self._idle:
            connection = self._idle.pop().connection
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def _close_expired(self) -> None:
        oldest = time.monotonic() - KEEP_IDLE_SECONDS
        while self._idle and self._idle[0].since < oldest:
            await self._idle.popleft().connection.aclose()


class _Idle(NamedTuple):
    """A connection, which the server may have closed, and the monotonic time since when it is idle."""

    connection: httpcore.AsyncConnectionInterface
    since: float


class _Body(httpx.AsyncByteStream):
    """A response's body, which gives the connection back when it is closed."""

    def __init__(
        self, response: httpcore.Response, connection: httpcore.AsyncConnectionInterface, owner: ReusedConnections
    ) -> None:
        self._response = response
        self._connection = connection
        self._owner = owner
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for part in self._response.aiter_stream():
                yield part

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                # Of a body that was not read to its end, this closes the connection.
                await self._response.aclose()
            finally:
                await self._owner.give_back(self._connection)


async def _send_on(connection: httpcore.AsyncConnectionInterface, request: httpcore.Request) -> httpcore.Response:
    try:
        return await connection.handle_async_request(request)
    except BaseException:
        await connection.aclose()
        raise


def _as_httpcore_request(request: httpx.Request) -> httpcore.Request:
    return httpcore.Request(
        request.method,
        httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        ),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def _as_httpcore_proxy(address: str) -> httpcore.Proxy:
    proxy = httpx.Proxy(address)  # takes name and password out of the address
    if proxy.url.scheme not in ("http", "https"):
        raise ValueError("a proxy's address begins with http:// or https://")
    url = httpcore.URL(
        scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
    )
    return httpcore.Proxy(url, auth=proxy.raw_auth)


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Raise httpcore's errors as those of httpx, which have the same names."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.ProxyError) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
