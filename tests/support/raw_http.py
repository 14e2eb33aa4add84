"""Sends bytes to a server, whether they are HTTP or not, and reads what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict

HEAD = b"GET /api/v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
PROBE = HEAD + b"\r\n"


@dataclass(frozen=True)
class RawResponse:
    """A response, as it was sent."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    text: bytes

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Return the problem, which must be this one."""
        assert (self.status, self.headers["Content-Type"]) == (status, "application/problem+json"), self.text
        found: dict[str, Any] = json.loads(self.body)
        assert (found["type"], found["status"]) == (f"/problems/{code}", status)
        assert found["request_id"] == self.headers["X-Request-ID"]
        return found


class RawConnection:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def response(self) -> RawResponse:
        """Read a response; it must come within ten seconds, and its body has a length or is chunked."""
        async with asyncio.timeout(10):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers: CIMultiDict[str] = CIMultiDict()
            for name, _, value in (line.partition(": ") for line in lines if line):
                headers.add(name, value)
            body = await self._reader.readexactly(int(headers.get("Content-Length", "0")))
        return RawResponse(int(first.split()[1]), headers, body, head + body)

    async def ended(self, *, seconds: float = 10.0) -> bytes:
        """Wait until the server ends the connection; return what it sent before that."""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                return await self._reader.read()
        return b""

    @property
    def is_open(self) -> bool:
        """Whether the server has not ended the connection."""
        return not self._reader.at_eof()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@asynccontextmanager
async def raw_connection(base_url: str, *, reading: bool = True) -> AsyncIterator[RawConnection]:
    """Open a connection to the server of a URL for the block.

    Args:
        base_url: the server.
        reading: False to leave everything that it sends unread.
    """
    host, _, port = base_url.rpartition("//")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    if not reading:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
    connection = RawConnection(reader, writer)
    try:
        yield connection
    finally:
        connection.close()


async def answer_to(base_url: str, sent: bytes) -> RawResponse:
    """Send bytes on a connection of their own and return the response."""
    async with raw_connection(base_url) as connection:
        connection.send(sent)
        return await connection.response()
