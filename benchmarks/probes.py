"""What a health probe costs on a fully loaded API: the time in its handler, and the time until the response.

uv run python -m benchmarks.probes [--seconds 20] [--clients 16]

The load and the prober run in processes of their own. On a fully used CPU, the time until the response is mostly spent
waiting for the event loop and the CPU, as liveness shows, whose handler does nothing. The time in the handler is the
cost of the probe itself.

On two cores that were shared with other programs (load 11), with 16 clients, readiness used 0.25 ms of CPU time at the
median and 0.66 ms at p99, liveness 0.18 ms and 0.31 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import time
from multiprocessing.synchronize import Barrier, Event
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from actors import connected
from api.app import create_app
from api.server import serve
from api.services import Services
from tests.chaos.harness import NEW_RUN, own_postgres, own_redis
from tests.chaos.ledger import quantile
from vm_webapp.db.pool import open_pool
from vm_webapp.ops.health import HealthChecker
from vm_webapp.settings import Settings
from vm_webapp.workflows.loader import load_catalog

EVERY_SECONDS = 0.02
LOADERS = 2
PROBES = ("live", "ready")

Times = dict[str, list[float]]


def load(base: str, clients: int, go: Barrier, stop: Event, done: multiprocessing.Queue[int]) -> None:
    """Create and list runs, one request after another on each connection, until ``stop`` is set."""

    async def run_client(http: aiohttp.ClientSession) -> int:
        count = 0
        while not stop.is_set():
            async with http.post("runs", json=NEW_RUN) as created:
                await created.read()
            async with http.get("runs?limit=20") as listed:
                await listed.read()
            count += 2
        return count

    async def run_clients() -> None:
        async with aiohttp.ClientSession(f"{base}/") as http:
            done.put(sum(await asyncio.gather(*(run_client(http) for _ in range(clients)))))

    go.wait()
    asyncio.run(run_clients())


def probe(base: str, go: Barrier, stop: Event, done: multiprocessing.Queue[Times]) -> None:
    """Call both probes at a steady pace until ``stop`` is set; put the seconds of each response into ``done``."""
    took: Times = {probe: [] for probe in PROBES}
    where = urlsplit(base)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
    go.wait()
    while not stop.is_set():
        for name, times in took.items():
            began = time.perf_counter()
            connection.request("GET", f"{where.path}/health/{name}")
            connection.getresponse().read()
            times.append(time.perf_counter() - began)
            time.sleep(EVERY_SECONDS)
    done.put(took)


def timed(own: Times, cpu: Times) -> Middleware:
    """Return a middleware that records how long a probe's handler takes, and how much CPU time it uses."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        began, began_cpu = time.perf_counter(), time.thread_time()
        response = await handler(request)
        probe = request.path.rpartition("/")[2]
        if probe in own:
            cpu[probe].append(time.thread_time() - began_cpu)
            own[probe].append(time.perf_counter() - began)
        return response

    return note


def report(name: str, took: Times) -> None:
    """Print a line for each probe."""
    for probe, times in took.items():
        times.sort()
        p50, p99 = (1000 * quantile(times, share) for share in (0.5, 0.99))
        print(f"{name:20} {probe:6} p50 {p50:6.2f} ms, p99 {p99:6.2f} ms, of {len(times)}")


async def probe_for(base: str, seconds: float, clients: int) -> None:
    """Call the probes for a while, beside so many clients; print how long the responses took."""
    stop: Event = multiprocessing.Event()
    responses: multiprocessing.Queue[Times] = multiprocessing.Queue()
    requests: multiprocessing.Queue[int] = multiprocessing.Queue()
    loaders = LOADERS if clients else 0
    go = multiprocessing.Barrier(loaders + 2)
    processes = [
        multiprocessing.Process(target=load, args=(base, clients // LOADERS, go, stop, requests))
        for _ in range(loaders)
    ]
    processes.append(multiprocessing.Process(target=probe, args=(base, go, stop, responses)))
    for process in processes:
        process.start()
    await asyncio.to_thread(go.wait)  # the processes take seconds to start
    await asyncio.sleep(seconds)
    stop.set()
    report("until the response", await asyncio.to_thread(responses.get))
    total = sum([await asyncio.to_thread(requests.get) for _ in range(loaders)])
    print(f"{total / seconds:.0f} other requests/s by {clients} clients")


async def measure(settings: Settings, seconds: float, clients: int) -> None:
    """Run the API in this process, and measure without load and with it."""
    health = HealthChecker(settings, settings.redis_url)
    services = Services(settings, load_catalog(), health, False, redis_url=settings.redis_url)
    own: Times = {probe: [] for probe in PROBES}
    cpu: Times = {probe: [] for probe in PROBES}
    app = create_app(services)
    app.middlewares.insert(0, timed(own, cpu))
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(app, "127.0.0.1", 0, stop=stop, on_started=started.set_result))
    base = f"{await started}/api/v2"
    with health.monitored():
        for with_clients in (0, clients):
            for times in (*own.values(), *cpu.values()):
                times.clear()
            await probe_for(base, seconds, with_clients)
            report("in the handler", own)
            report("CPU time of that", cpu)
    stop.set()
    await serving


def main() -> None:
    """Start the servers and measure."""
    multiprocessing.set_start_method("spawn")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=16)
    given = parser.parse_args()
    with own_postgres() as postgres, own_redis() as redis:
        open_pool(postgres.url, max_connections=8, application_name="vm-webapp api")
        with connected(redis.url):
            asyncio.run(measure(Settings(db_url=postgres.url, redis_url=redis.url), given.seconds, given.clients))


if __name__ == "__main__":
    main()
