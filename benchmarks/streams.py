"""The cost of open event streams and waiting requests, each for a run of its own: memory and transactions of the API.

uv run python -m benchmarks.streams [--streams 200] [--waits 200] [--seconds 10] [--without-redis]

The API checks its health once a second even without requests, so the transactions of an idle API are measured first.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp

from tests.chaos.harness import own_postgres, own_redis
from tests.chaos.ledger import quantile
from tests.support.processes import Program, program
from vm_webapp.db.pool import row, transaction

SETTLE_SECONDS = 11  # PostgreSQL adds an idle connection's transactions to its statistics within this time
RUN = {"workflow": "content_calendar", "request": "a calendar for a bakery"}


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def transactions() -> int:
    """Return how many transactions have ended in this database."""
    with transaction():
        found = row(
            "SELECT xact_commit + xact_rollback AS seen FROM pg_stat_database WHERE datname = current_database()"
        )
    assert found is not None
    return int(found["seen"])


async def transactions_per_second(seconds: float) -> float:
    """Return the transactions per second while no further request is sent."""
    await asyncio.sleep(SETTLE_SECONDS)
    before, began = transactions(), time.monotonic()
    await asyncio.sleep(seconds)
    return (transactions() - before) / (time.monotonic() - began)


async def measure(api: Program, base: str, streams: int, waits: int, seconds: float) -> None:
    """Open streams and waiting requests, cancel some of the runs, and print memory, transactions and delays."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"{base}/", connector=connector) as session:

        async def create() -> str:
            async with session.post("runs", json=RUN) as response:
                return str((await response.json())["id"])

        async def wait(run: str) -> str:
            async with session.get(f"runs/{run}", params={"wait": 30}) as response:
                return str((await response.json())["status"])

        runs = [await create() for _ in range(streams + waits)]
        followed, awaited = runs[:streams], runs[streams:]
        idle = await transactions_per_second(seconds)
        before = resident_mb(api.pid)
        opened = [await session.get(f"runs/{run}/events", headers={"Accept": "text/event-stream"}) for run in followed]
        for response in opened:
            await response.content.readuntil(b"stage.queued")
        waiting = [asyncio.create_task(wait(run)) for run in awaited]
        busy = await transactions_per_second(seconds)
        during = resident_mb(api.pid)
        print(f"{streams} streams and {waits} waits: {before:.0f} MB before, {during:.0f} MB with them")
        print(f"transactions per second: {idle:.1f} before, {busy:.1f} with them")

        async def arrives_on_stream(number: int) -> None:
            await opened[number].content.readuntil(b"run.canceled")

        async def ends_wait(number: int) -> None:
            assert await waiting[number] == "canceled"

        async def cancel_all(name: str, of: list[str], arrives: Callable[[int], Awaitable[None]]) -> None:
            arrivals = []
            for number, run in enumerate(of):
                sent = time.monotonic()
                async with session.post(f"runs/{run}/cancel", json={}) as canceled:
                    assert canceled.status == 200
                await arrives(number)
                arrivals.append(time.monotonic() - sent)
            if arrivals:
                p50, p99 = (1000 * quantile(sorted(arrivals), share) for share in (0.5, 0.99))
                print(f"{name}: notified {p50:.0f} ms after the request at the median, {p99:.0f} ms at p99")

        # Waits first, and only a few: after 30 s the others end by themselves.
        await cancel_all("waits", awaited[:10], ends_wait)
        await cancel_all("streams", followed[:20], arrives_on_stream)
        for task in waiting:
            task.cancel()


def main() -> None:
    """Start the servers and the API, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--waits", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--without-redis", action="store_true")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-bench-")))
        env = {"VM_WORKSPACE_ROOT": f"{folder}/workspace", "VM_DB_URL": stack.enter_context(own_postgres()).url}
        if not given.without_redis:
            env["VM_REDIS_URL"] = stack.enter_context(own_redis()).url
        api = stack.enter_context(program("serve", "--no-worker", "--port", "0", env=env, folder=folder / "log"))
        api.says("API ", seconds=60)
        found = re.search(r"API\s+(http://\S+)", api.output())
        assert found is not None
        asyncio.run(measure(api, f"{found[1]}/api/v2", given.streams, given.waits, given.seconds))


if __name__ == "__main__":
    main()
