"""Compares the CPU time that API and worker take for a stage, with a part of the product and without it.

Runs of three stages are created by POST and executed with the instant model, so that a stage is as cheap as it gets.
Time of the clock is not compared: the two contenders do not run at the same moment.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx

from benchmarks.__main__ import positive, servers
from benchmarks.drain import Servers, read
from tests.support.deployment import address_of, managed_environment
from tests.support.processes import Program
from tests.support.waiting import eventually

STAGES = 3
WARM_UP = 20
TOKEN = "b" * 32
NEW_RUN = {"workflow": "plan_90d", "request": "A plan for a bakery that delivers by bicycle", "auto_approve": True}
TICKS = os.sysconf("SC_CLK_TCK")
API = "import sys; from vm_webapp.cli import main; sys.exit(main(['serve', '--port', '0']))"
WORKER = "import sys; from benchmarks.instant_worker import main; sys.exit(main())"
# Measures one contender: the servers, a folder of its own, how many runs, and whether the part is on.
Contender = Callable[[Servers, Path, int, bool], float]


def milliseconds_per_stage(
    given: Servers,
    folder: Path,
    count: int,
    *,
    first: str = "",
    settle: Callable[[int], object] = lambda runs: None,
    **env: str,
) -> float:
    """Return the CPU time of API and worker for a stage, in milliseconds.

    Args:
        given: PostgreSQL and Redis.
        folder: for the logs and the workspace.
        count: how many runs are measured.
        first: Python that both processes execute before anything else.
        settle: called with the number of runs so far when they have finished; waits for what follows them.
        **env: further variables of both processes.
    """
    read(given, "TRUNCATE runs CASCADE")
    with _running(given, folder, first, env) as (api, worker, client):
        _carry(given, client, WARM_UP)
        settle(WARM_UP)
        before = _cpu_seconds(api, worker)
        _carry(given, client, count)
        settle(WARM_UP + count)
        return 1000 * (_cpu_seconds(api, worker) - before) / (count * STAGES)


def compare(part: str, description: str | None, measure: Contender) -> None:
    """Read the command line, measure in alternating rounds, and print what the part adds to a stage.

    Args:
        part: what is on or off.
        description: of the command.
        measure: measures one contender.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=positive, default=3, help="how often each of the two measures (3)")
    parser.add_argument("--count", type=positive, default=200, help="runs in each round (200)")
    given = parser.parse_args()
    figures: dict[str, list[float]] = {"off": [], "on": []}
    with servers({}) as started:
        for number in range(given.rounds):
            for name, values in figures.items():
                values.append(measure(started, started.folder / f"{name}-{number}", given.count, name == "on"))
                print(f"round {number + 1}: {name:3} {values[-1]:.3f} ms of CPU for a stage", flush=True)
    # Of each round by itself: between rounds the machine changes more than the part costs.
    added = [on - off for off, on in zip(figures["off"], figures["on"], strict=True)]
    share = [100 * more / off for more, off in zip(added, figures["off"], strict=True)]
    print(f"{part} add {median(added):+.3f} ms to a stage: {median(share):+.1f} % (median of the rounds)")


@contextmanager
def _running(
    given: Servers, folder: Path, first: str, env: dict[str, str]
) -> Iterator[tuple[Program, Program, httpx.Client]]:
    env = (
        managed_environment(
            given.database_url, given.redis_url, folder, VM_API_TOKEN=TOKEN, KIMI_API_KEY="sk-test", LOG_LEVEL="WARNING"
        )
        | {"VM_REQUESTS_PER_MINUTE": "10000000"}
        | env
    )
    with ExitStack() as stack:
        api = Program([sys.executable, "-c", first + API], env, folder / "api")
        stack.callback(api.stop)
        worker = Program([sys.executable, "-c", first + WORKER], env, folder / "worker")
        stack.callback(worker.stop)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client = httpx.Client(base_url=f"{address_of(api)}/api/v2", headers=headers, trust_env=False)
        yield api, worker, stack.enter_context(client)


def _carry(given: Servers, client: httpx.Client, count: int) -> None:
    for _ in range(count):
        client.post("/runs", json=NEW_RUN).raise_for_status()
    unfinished = "SELECT 1 FROM runs WHERE finished_at IS NULL LIMIT 1"
    eventually(lambda: not read(given, unfinished), "every run is finished", seconds=300, every=0.2)


def _cpu_seconds(*programs: Program) -> float:
    fields = [Path(f"/proc/{each.pid}/stat").read_text().rsplit(")", 1)[1].split() for each in programs]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS
