"""Sends GET over 32 connections that stay open, paths in turn, and prints how many were answered per second.

uv run python -m benchmarks.get_client BASE COUNT PATH...
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from itertools import cycle

from benchmarks.post_client import WARM_UP, head_of, rate_of


async def send(base: str, count: int, paths: Sequence[str]) -> float:
    """Send so many requests; return the requests per second."""
    requests = cycle([f"{head_of('GET', path, base)}\r\n".encode() for path in paths])
    return await rate_of(base, count, lambda: next(requests), status=200)


def main() -> None:
    """Warm up, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("count", type=int)
    parser.add_argument("paths", nargs="+", metavar="path")
    given = parser.parse_args()
    asyncio.run(send(given.base, WARM_UP, given.paths))
    print(asyncio.run(send(given.base, given.count, given.paths)))


if __name__ == "__main__":
    main()
