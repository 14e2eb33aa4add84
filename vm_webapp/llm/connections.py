"""Sends requests to a model's server, over connections that stay open for the next ones.

By aiohttp, whose parser in C is what a worker with hundreds of streams needs: they all are read by one thread.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesIOPayload

from vm_webapp.certificates import trusted_certificates
from vm_webapp.proxies import basic_authorization, proxy_for

CONNECT_SECONDS = 10.0
SEND_SECONDS = 30.0
# Less than the 60 s after which load balancers begin to close idle connections. Some servers close them after 5 s.
KEEP_IDLE_SECONDS = 45.0
# A connection that was closed while it was idle fails within a round trip. A server that breaks off later than this has
# begun to work on the request.
CLOSED_WHILE_IDLE_SECONDS = 2.0
LONGEST_HEADER_BYTES = 65_536


class Connections:
    """The connections to one address, directly or through the environment's proxy.

    Their number has no limit: a request gets one that is idle, or a new one. So there are never more than there were
    requests at the same time, and each is kept for 45 s.

    A request is sent a second time, on a new connection, if the server closed the connection just as it was sent again
    on it. Use it only for requests that may be repeated, such as model calls.

    Args:
        url: the address.
        headers: sent with every request. A name and a password in the address take the place of ``Authorization``.

    Raises:
        ConfigurationError: the certificates that the environment names cannot be used.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._scheme, self.host = parts.scheme, parts.hostname or ""
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._headers = dict(headers)
        if parts.username is not None:
            login = unquote(parts.username), unquote(parts.password or "")
            self._headers["Authorization"] = basic_authorization(*login)
        self._certificates = trusted_certificates()
        self._kept: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def post(self, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a body, and yield the response once its head is there.

        The connection is closed at the end of the block, unless the response was read to its end.

        Raises:
            UnusableProxy: the environment's proxy for this address cannot be used.
            aiohttp.InvalidURL: the address cannot be called.
            aiohttp.ClientError: there is no connection, or it broke.
        """
        if self._scheme not in ("http", "https"):
            raise aiohttp.InvalidURL(self._url, "the address begins with neither http:// nor https://")
        began = time.monotonic()
        if self._kept is None:
            self._kept = self._open_session(keepalive_timeout=KEEP_IDLE_SECONDS)
        async with AsyncExitStack() as closing:
            used = _Used()
            try:
                response = await self._send(self._kept, body, used)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not used.again or time.monotonic() - began > CLOSED_WHILE_IDLE_SECONDS:
                    raise
                new = await closing.enter_async_context(self._open_session(force_close=True))
                response = await self._send(new, body, used)
            async with response:
                yield response

    async def aclose(self) -> None:
        """Close the connections, those in use, too."""
        if self._kept is not None:
            await self._kept.close()
            self._kept = None

    def _open_session(self, **keeping: Any) -> aiohttp.ClientSession:
        noting = aiohttp.TraceConfig()
        noting.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._certificates, **keeping),
            cookie_jar=aiohttp.DummyCookieJar(),
            # The caller's deadline ends a call, not a limit on reading: a reasoning model may be silent for minutes.
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, ceil_threshold=60),
            max_line_size=LONGEST_HEADER_BYTES,
            max_field_size=LONGEST_HEADER_BYTES,
            trace_configs=[noting],
        )

    async def _send(self, session: aiohttp.ClientSession, body: bytes, used: _Used) -> aiohttp.ClientResponse:
        proxy = proxy_for(self._scheme, self.host)
        for_proxy: dict[str, str] = {}
        if proxy is not None and proxy.credentials is not None:
            for_proxy["Proxy-Authorization"] = basic_authorization(*proxy.credentials)
        # A tunnel is asked for by a request of its own; without one, the proxy reads the request itself.
        tunneled = self._scheme == "https"
        return await session.post(
            self._url,
            data=_Body(BytesIO(body)),
            headers=self._headers if tunneled else self._headers | for_proxy,
            allow_redirects=False,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=for_proxy if tunneled else None,
            trace_request_ctx=used,
        )


def is_unconnected(error: aiohttp.ClientError) -> bool:
    """Return whether there was no connection at all, so that nothing of the request was sent."""
    return isinstance(
        error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientHttpProxyError
    )


def words_of(error: aiohttp.ClientError) -> str:
    """Return what an error says, without the address: the system's words where they are the reason."""
    match error:
        case aiohttp.InvalidURL():
            return error.description or "the address is not a URL"
        case aiohttp.ConnectionTimeoutError():
            return f"none within {CONNECT_SECONDS:g} s"
        case aiohttp.ClientConnectorCertificateError():
            return str(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return _words_of_system(error.os_error)
        case aiohttp.ClientOSError():
            return _words_of_system(error)
        case aiohttp.ServerDisconnectedError():
            return "the server closed it without a response"
        case aiohttp.ClientPayloadError():
            return "the response broke off"
        case aiohttp.ClientHttpProxyError():
            return f"{error.status} {error.message}"
        case aiohttp.ClientResponseError():
            return f"no valid response: {error.message}"
        case _:
            return str(error) or type(error).__name__


def _words_of_system(error: OSError) -> str:
    # asyncio's own words name the call and the address. A name that is unknown has a negative number.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)


@dataclass(slots=True)
class _Used:
    """The connection that a request got.

    Attributes:
        again: whether it had been used before.
    """

    again: bool = False


async def _note_reuse(session: aiohttp.ClientSession, context: SimpleNamespace, about: object) -> None:
    context.trace_request_ctx.again = True


class _Body(BytesIOPayload):
    """A request's body, which the server has to take in time."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send it.

        Raises:
            ServerTimeoutError: the server did not take it within 30 s.
        """
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await super().write_with_length(writer, content_length)
        except TimeoutError as error:
            raise aiohttp.ServerTimeoutError(f"it does not take the request within {SEND_SECONDS:g} s") from error
