"""What traces cost: the CPU time of API and worker for a stage, with a collector and without, in alternating rounds.

uv run python -m benchmarks.traces [--rounds 3] [--count 200]

Runs of three stages are created by POST and executed with the instant model, so that a stage is as cheap as it gets.
Time of the clock is not compared: the two contenders do not run at the same moment.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx

from benchmarks.__main__ import positive, servers
from benchmarks.drain import Servers, read
from tests.fakes.collector import FakeCollector
from tests.support.deployment import address_of, managed_environment
from tests.support.processes import Program, program
from tests.support.waiting import eventually
from vm_webapp.tracing.batches import EVERY_SECONDS

STAGES = 3
SETTLE_SECONDS = EVERY_SECONDS + 1.0
WARM_UP = 20
TOKEN = "b" * 32
NEW_RUN = {"workflow": "plan_90d", "request": "A plan for a bakery that delivers by bicycle", "auto_approve": True}
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(*programs: Program) -> float:
    """Return the CPU time that these processes have used, in all their threads."""
    fields = [Path(f"/proc/{each.pid}/stat").read_text().rsplit(")", 1)[1].split() for each in programs]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


@contextmanager
def running(given: Servers, folder: Path, **env: str) -> Iterator[tuple[Program, Program, httpx.Client]]:
    """Run an API and a worker with the instant model; yield them and a client."""
    env = managed_environment(
        given.database_url, given.redis_url, folder, VM_API_TOKEN=TOKEN, KIMI_API_KEY="sk-test", LOG_LEVEL="WARNING"
    ) | {"VM_REQUESTS_PER_MINUTE": "10000000", **env}
    with ExitStack() as stack:
        api = stack.enter_context(program("serve", "--port", "0", env=env, folder=folder / "api"))
        worker = Program([sys.executable, "-m", "benchmarks.instant_worker"], env, folder / "worker")
        stack.callback(worker.stop)
        client = httpx.Client(
            base_url=f"{address_of(api)}/api/v2", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )
        yield api, worker, stack.enter_context(client)


def milliseconds_per_stage(given: Servers, folder: Path, count: int, collector: FakeCollector | None) -> float:
    """Return the CPU time of API and worker for a stage of so many runs, in milliseconds."""
    read(given, "TRUNCATE runs CASCADE")
    endpoint = {} if collector is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    with running(given, folder, **endpoint) as (api, worker, client):
        _carry(given, client, WARM_UP)
        _wait_for_spans(collector, WARM_UP)
        before = cpu_seconds(api, worker)
        _carry(given, client, count)
        _wait_for_spans(collector, WARM_UP + count)
        return 1000 * (cpu_seconds(api, worker) - before) / (count * STAGES)


def _carry(given: Servers, client: httpx.Client, count: int) -> None:
    for _ in range(count):
        client.post("/runs", json=NEW_RUN).raise_for_status()
    unfinished = "SELECT 1 FROM runs WHERE finished_at IS NULL LIMIT 1"
    eventually(lambda: not read(given, unfinished), "every run is finished", seconds=300, every=0.2)


def _wait_for_spans(collector: FakeCollector | None, runs: int) -> None:
    # A request, its run, and of each stage an attempt and a call: what is still to be sent also takes time. Both wait
    # as long, for idle processes use CPU, too.
    time.sleep(SETTLE_SECONDS)
    if collector is not None:
        wanted = runs * (2 + 2 * STAGES)
        eventually(lambda: len(collector.spans) >= wanted, f"{wanted} spans", seconds=30, every=0.2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=3, help="how often each of the two measures (3)")
    parser.add_argument("--count", type=positive, default=200, help="runs in each round (200)")
    given = parser.parse_args()
    figures: dict[str, list[float]] = {"off": [], "on": []}
    with servers({}) as started:
        for number in range(given.rounds):
            for name, values in figures.items():
                with FakeCollector() as collector:
                    folder = started.folder / f"{name}-{number}"
                    values.append(
                        milliseconds_per_stage(started, folder, given.count, collector if name == "on" else None)
                    )
                print(f"round {number + 1}: {name:3} {values[-1]:.3f} ms of CPU for a stage", flush=True)
    # Of each round by itself: between rounds the machine changes more than traces cost.
    added = [on - off for off, on in zip(figures["off"], figures["on"], strict=True)]
    share = [100 * more / off for more, off in zip(added, figures["off"], strict=True)]
    print(f"traces add {median(added):+.3f} ms to a stage: {median(share):+.1f} % (median of the rounds)")


if __name__ == "__main__":
    main()
