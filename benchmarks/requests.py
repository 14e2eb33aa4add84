"""What a request and a stage cost the process that handles them: CPU time and SQL statements, BEGIN and COMMIT apart.

uv run python -m benchmarks.requests [--count 300]

Requests arrive one after another over HTTP from a process of its own. A stage is claimed and finished by calls of the
core, without a model, as a worker does it: what remains is the cost of the queue. The long run has 200 events and ten
documents; its page may cost 50 ms. Run it in two checkouts in turn to
compare them: figures of different days or machines say nothing about each other.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import aiohttp

from api.app import create_app
from api.server import serve
from api.services import Services
from tests.chaos.harness import NEW_RUN, own_postgres
from tests.support.long_run import create_long_run
from vm_webapp.db import pool
from vm_webapp.llm.base import Completion
from vm_webapp.ops.health import HealthChecker
from vm_webapp.runs import lifecycle
from vm_webapp.settings import Settings
from vm_webapp.workflows.loader import load_catalog

WARM_UP = 20
PAGE = 50


class Meter:
    """Counts the statements of this process, and measures its CPU time."""

    def __init__(self) -> None:
        self.statements = 0
        send: Callable[..., Any] = pool.database.execute_sql

        def count(*arguments: Any, **options: Any) -> Any:
            self.statements += 1
            return send(*arguments, **options)

        setattr(pool.database, "execute_sql", count)  # noqa: B010 - counts what every statement goes through

    @contextmanager
    def measuring(self, what: str, count: int) -> Iterator[None]:
        """Print what one of ``count`` repetitions in the block costs."""
        statements, began = self.statements, time.process_time()
        yield
        cpu = 1000 * (time.process_time() - began) / count
        print(f"{what:24} {cpu:7.3f} ms of CPU, {(self.statements - statements) / count:6.2f} statements", flush=True)


def request(base: str, calls: list[tuple[str, str, dict[str, Any] | None]]) -> None:
    """Send requests one after another."""

    async def send() -> None:
        async with aiohttp.ClientSession(f"{base}/") as http:
            for method, path, body in calls:
                async with http.request(method, path, json=body) as response:
                    assert response.status < 300, await response.text()
                    await response.read()

    asyncio.run(send())


async def measure_requests(meter: Meter, count: int) -> None:
    """Run the API in this process, and measure each kind of request."""
    settings = Settings()
    services = Services(settings, load_catalog(), HealthChecker(settings, None), False, redis_url=None)
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(create_app(services), "127.0.0.1", 0, stop=stop, on_started=started.set_result))
    base = f"{await started}/api/v2"
    with multiprocessing.get_context("spawn").Pool(1) as client:

        async def send(*calls: tuple[str, str, dict[str, Any] | None]) -> None:
            await asyncio.to_thread(client.apply, request, (base, list(calls)))

        async with aiohttp.ClientSession() as http, http.post(f"{base}/brands", json={"name": "Crumb & Co"}) as made:
            brand = (await made.json())["id"]
        async with aiohttp.ClientSession() as http, http.post(f"{base}/runs", json=NEW_RUN) as created:
            run = (await created.json())["id"]
        long_run = await asyncio.to_thread(create_long_run)
        kinds = {
            "POST /runs": ("POST", "runs", NEW_RUN),
            "POST /runs with a brand": ("POST", "runs", NEW_RUN | {"brand_id": brand}),
            "GET /runs/{id}": ("GET", f"runs/{run}", None),
            f"GET /runs, {PAGE}": ("GET", f"runs?limit={PAGE}", None),
            "GET /brands": ("GET", f"brands?limit={PAGE}", None),
            "the home page": ("GET", "/", None),
            "the page of a long run": ("GET", f"/ui/runs/{long_run}", None),
        }
        for call in kinds.values():
            await send(*[call] * WARM_UP)
        for what, call in kinds.items():
            with meter.measuring(what, count):
                await send(*[call] * count)
    stop.set()
    await serving


def measure_stages(meter: Meter, count: int) -> None:
    """Claim and finish every stage of the runs that are due."""
    worker = lifecycle.Claimant(uuid4(), "offline")
    completion = Completion("# Text\n\n" + "words " * 200, "offline")

    def drain(most: int) -> int:
        done = 0
        while done < most:
            claims = lifecycle.claim_due_stages(worker, [uuid4() for _ in range(8)]).claims
            assert claims, "more runs are needed"
            for claim in claims:
                done += run_to_its_end(claim, worker, completion)
        return done

    drain(WARM_UP)
    statements, began = meter.statements, time.process_time()
    done = drain(count)
    cpu = 1000 * (time.process_time() - began) / done
    print(f"{'a stage':24} {cpu:7.3f} ms of CPU, {(meter.statements - statements) / done:6.2f} statements", flush=True)


def run_to_its_end(claim: lifecycle.Claim, worker: lifecycle.Claimant, completion: Completion) -> int:
    """Finish a stage, and those after it as their finisher does; return how many."""
    stages = 0
    following: lifecycle.Claim | None = claim
    while following is not None:
        finished = lifecycle.finish_stage_if_held(following, completion, worker, next_token=uuid4())
        assert finished is not None
        following, stages = finished.next, stages + 1
    return stages


def main() -> None:
    """Start PostgreSQL and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    given = parser.parse_args()
    with own_postgres() as postgres:
        pool.open_pool(postgres.url, max_connections=8, application_name="vm-webapp api")
        meter = Meter()
        asyncio.run(measure_requests(meter, given.count))
        measure_stages(meter, given.count)


if __name__ == "__main__":
    main()
