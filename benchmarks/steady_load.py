"""What a steady load does to a database over time: how soon requests are answered, and what autovacuum leaves behind.

An API and a worker with the instant model run as they come. Runs are created at a fixed pace, and lists and runs are
read at the same pace, so that the minutes can be compared with one another.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from benchmarks.drain import PYTHON, Servers, read, running
from benchmarks.post_client import TOKEN
from tests.chaos.harness import NEW_RUN
from tests.support.deployment import address_of, managed_environment

PER_SECOND = 20  # runs created, lists read and runs read, each
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
TABLES = ("runs", "stages", "artifacts", "events")
COUNTERS = """
SELECT relname, pg_total_relation_size(relid), n_dead_tup::float8 / greatest(n_live_tup, 1), autovacuum_count
  FROM pg_stat_user_tables WHERE relname IN %s ORDER BY relname
"""
WAITS = """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY 1000 * extract(epoch FROM started_at - created_at)),
       count(*) FROM runs WHERE started_at IS NOT NULL AND created_at > now() - interval '1 minute'
"""


@dataclass(frozen=True, slots=True)
class Minute:
    """What one minute of load showed.

    Attributes:
        create_ms: POST /runs, p50 and p95.
        list_ms: the list of the newest 50, p50 and p95.
        run_ms: one run, p50 and p95.
        wait_ms: from a run's creation to its first claim, p50 and p95.
        megabytes: of each table with its indexes.
        dead_share: dead rows of each table for each live one.
        vacuumed: how often autovacuum has been at each table since the start of the server.
    """

    create_ms: tuple[float, float]
    list_ms: tuple[float, float]
    run_ms: tuple[float, float]
    wait_ms: tuple[float, float]
    megabytes: dict[str, float]
    dead_share: dict[str, float]
    vacuumed: dict[str, int]


def bear_load(servers: Servers, minutes: int) -> list[Minute]:
    """Keep the load up for so many minutes; return what each of them showed.

    Raises:
        RuntimeError: a request was not answered as it should be, or the pace could not be kept.
    """
    env = managed_environment(servers.database_url, servers.redis_url, servers.folder, VM_API_TOKEN=TOKEN)
    worker = {"BENCH_DB_URL": servers.database_url, "BENCH_REDIS_URL": servers.redis_url}
    with (
        running(servers, [*PYTHON, "vm_webapp", "serve", "--port", "0"], env) as api,
        running(servers, [*PYTHON, "benchmarks.instant_worker"], env | worker),
    ):
        base = f"{address_of(api)}/api/v2"
        return [_minute(servers, base) for _ in range(minutes)]


def _minute(servers: Servers, base: str) -> Minute:
    created, listed, one = asyncio.run(_requests(base))
    ((waits, started),) = read(servers, WAITS)
    if started < 0.9 * 60 * PER_SECOND:
        raise RuntimeError(f"the worker has begun {started} runs in a minute in which {60 * PER_SECOND} were created")
    counters = read(servers, COUNTERS, TABLES)
    return Minute(
        _quantiles(created),
        _quantiles(listed),
        _quantiles(one),
        (float(waits[0]), float(waits[1])),
        {name: size / 1e6 for name, size, _, _ in counters},
        {name: float(dead) for name, _, dead, _ in counters},
        {name: int(count) for name, _, _, count in counters},
    )


async def _requests(base: str) -> tuple[list[float], list[float], list[float]]:
    """Send the requests of a minute, each when it is due; return the milliseconds of each kind."""
    ids: list[str] = []
    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def create() -> None:
            async with session.post(f"{base}/runs", json=NEW_RUN) as response:
                response.raise_for_status()
                ids.append((await response.json())["id"])

        async def get(path: str) -> None:
            async with session.get(f"{base}{path}") as response:
                response.raise_for_status()
                await response.read()

        await create()
        return await asyncio.gather(
            _paced(create), _paced(lambda: get("/runs?limit=50")), _paced(lambda: get(f"/runs/{ids[-1]}"))
        )


async def _paced(request: Callable[[], Awaitable[None]]) -> list[float]:
    """Send a request at the fixed pace, whether or not the one before is answered; time each from when it was due."""
    taken: list[float] = []

    async def timed(due: float) -> None:
        await request()
        taken.append(1000 * (time.monotonic() - due))

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(60 * PER_SECOND):
            due = began + number / PER_SECOND
            await asyncio.sleep(max(due - time.monotonic(), 0))
            group.create_task(timed(due))
    return taken


def _quantiles(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=20)[-1]
