"""Opens TCP connections on asyncio itself for httpcore, whose own way through anyio takes several times the CPU."""

from __future__ import annotations

import asyncio
import os
import select
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

# As anyio and browsers do it: the next address is tried when the one before has not connected in this time.
NEXT_ADDRESS_SECONDS = 0.25
PAUSE_READING_BYTES = 256 * 1024


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Opens connections on the running event loop."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Stream:
        """Connect to a server.

        Args:
            host: a name or an address.
            port: the port.
            timeout: the longest time to take, in seconds; None for no limit.
            local_address: not used.
            socket_options: not used.

        Raises:
            httpcore.ConnectTimeout: it took too long.
            httpcore.ConnectError: there is no connection; the message is the system's.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, stream = await loop.create_connection(Stream, host, port, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(_words(error)) from error
        return stream


class Stream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """The bytes of a connection. One task at a time reads, and one writes."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._reading_paused = False
        self._has_news: asyncio.Future[None] | None = None
        self._can_write: asyncio.Future[None] | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Return what has arrived, at least a byte; nothing at the end of the stream.

        Raises:
            httpcore.ReadTimeout: nothing came in time.
            httpcore.ReadError: the connection broke.
        """
        if not self._received and not self._ended:
            self._has_news = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._has_news
            except TimeoutError as error:
                raise httpcore.ReadTimeout(str(error)) from error
            finally:
                self._has_news = None
        if not self._received and self._error is not None:
            raise httpcore.ReadError(str(self._error)) from self._error
        received = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        if self._reading_paused and len(self._received) < PAUSE_READING_BYTES:
            self._reading_paused = False
            self._transport.resume_reading()
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send bytes; return when the system has taken them, or nearly all.

        Raises:
            httpcore.WriteTimeout: the system did not take them in time.
            httpcore.WriteError: the connection broke.
        """
        if self._transport.is_closing():
            raise httpcore.WriteError(str(self._error or "the connection is closed"))
        self._transport.write(buffer)
        if self._can_write is not None:
            try:
                async with asyncio.timeout(timeout):
                    await self._can_write
            except TimeoutError as error:
                raise httpcore.WriteTimeout(str(error)) from error

    async def aclose(self) -> None:
        """Close the connection at once, without waiting for the other side."""
        # A TLS connection that is closed and not aborted would wait for the server's part of it.
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Stream:
        """Encrypt what follows. The connection may be encrypted already, as that to a proxy.

        Raises:
            httpcore.ConnectTimeout: it took too long.
            httpcore.ConnectError: the certificate is not trusted, or the connection broke.
        """
        loop = asyncio.get_running_loop()
        encrypted = Stream()
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(
                    self._transport, encrypted, ssl_context, server_hostname=server_hostname
                )
        except BaseException as error:
            self._transport.abort()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout(str(error)) from error
            if isinstance(error, OSError):  # of TLS, too
                raise httpcore.ConnectError(str(error)) from error
            raise
        assert transport is not None
        encrypted.connection_made(transport)
        return encrypted

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: the ``ssl_object``, and whether the stream ``is_readable``."""
        if info == "is_readable":
            return bool(self._received) or self._ended or _is_readable(self._transport.get_extra_info("socket"))
        return self._transport.get_extra_info(info)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep asyncio's end of the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep the bytes for the next read."""
        self._received += data
        if len(self._received) >= PAUSE_READING_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake(self._has_news)

    def eof_received(self) -> None:
        """Note that the server sends nothing more. asyncio then closes the connection."""
        self._ended = True
        self._wake(self._has_news)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed."""
        self._ended = True
        self._error = exc
        self._wake(self._has_news)
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_exception(httpcore.WriteError(str(exc or "the connection was closed")))

    def pause_writing(self) -> None:
        """Let writers wait until the system has taken more."""
        self._can_write = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._wake(self._can_write)
        self._can_write = None

    @staticmethod
    def _wake(waiting: asyncio.Future[None] | None) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def _is_readable(socket: Any) -> bool:
    """Return whether bytes, or the end of the stream, have arrived that the event loop has not seen yet."""
    if socket is None or socket.fileno() < 0:  # closed
        return True
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _words(error: OSError) -> str:
    """Return the system's words for a failed connect, such as ``Connection refused``; asyncio's name the call."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
