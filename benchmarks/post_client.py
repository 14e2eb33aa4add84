"""Sends POST /runs over 32 connections that stay open, and prints how many were answered per second.

uv run python -m benchmarks.post_client BASE COUNT [--keyed]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.chaos.harness import NEW_RUN

CLIENTS = 32
WARM_UP = 200
TOKEN = "b" * 32
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


async def send(base: str, count: int, *, keyed: bool) -> float:
    """Send so many requests; return the requests per second."""
    body = json.dumps(NEW_RUN).encode()
    head = f"{head_of('POST', '/api/v2/runs', base)}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"

    def request() -> bytes:
        key = f"Idempotency-Key: {uuid.uuid4()}\r\n" if keyed else ""
        return f"{head}{key}\r\n".encode() + body

    return await rate_of(base, count, request, status=201)


def head_of(method: str, path: str, base: str) -> str:
    """Return the first lines of a request, up to the token."""
    return f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(base).netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"


async def rate_of(base: str, count: int, request: Callable[[], bytes], *, status: int) -> float:
    """Send so many requests, each of which must be answered with a status; return the requests per second.

    They are written by hand: on two cores a client library would take as much time as the server that is measured.
    """
    address, left, expected = urlsplit(base), count, f"HTTP/1.1 {status}".encode()

    async def client() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while left > 0:
            left -= 1
            writer.write(request())
            response = await reader.readuntil(b"\r\n\r\n")
            assert response.startswith(expected), response
            length = LENGTH.search(response)
            assert length, response
            await reader.readexactly(int(length[1]))
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return count / (time.monotonic() - began)


def main() -> None:
    """Warm up, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("count", type=int)
    parser.add_argument("--keyed", action="store_true")
    given = parser.parse_args()
    asyncio.run(send(given.base, WARM_UP, keyed=given.keyed))
    print(asyncio.run(send(given.base, given.count, keyed=given.keyed)))


if __name__ == "__main__":
    main()
