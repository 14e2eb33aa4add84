"""A proxy as companies have them: it forwards requests to http:// addresses, and tunnels to https:// ones (CONNECT)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class HttpProxy:
    """A proxy on the running loop.

    Attributes:
        port: its loopback port.
        heads: the heads of the requests that it got, as text, oldest first.
        refuses: responds to every request with this status line, such as ``407 Proxy Authentication Required``.
    """

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[str] = []
        self.refuses = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            method, target, _ = head.split(" ", 2)
            if self.refuses:
                writer.write(f"HTTP/1.1 {self.refuses}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            address = urlsplit(f"//{target}" if method == "CONNECT" else target)
            server_reader, server_writer = await asyncio.open_connection(address.hostname, address.port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                server_writer.write(head.replace(target, address.path, 1).encode())
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone
        finally:
            writer.close()


@asynccontextmanager
async def a_proxy(tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpProxy]:
    """Run a proxy for the block, over TLS with this context's certificate."""
    proxy = HttpProxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65_536):
        writer.write(some)
        await writer.drain()
    writer.close()
