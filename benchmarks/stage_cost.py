"""Compares the CPU time of a stage, with a part of the product and without it: of API, worker and PostgreSQL together.

Two contenders live side by side, each with servers of its own, and carry small batches of runs in turn. A machine that
becomes slower is then as slow for the other, and of the rounds the median counts. Each stage calls a model that streams
2 KB in tokens of four characters, without a pause. Time of the clock is not compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from benchmarks.__main__ import positive
from benchmarks.drain import Servers, read
from tests.chaos.harness import OwnServer, own_redis
from tests.support.deployment import address_of, managed_environment
from tests.support.folders import open_folder
from tests.support.processes import Program
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.local.postgres import EmbeddedPostgres

STAGES = 3
WARM_UP = 40
IDLE_SECONDS = 6.0
TOKEN = "b" * 32
NEW_RUN = {"workflow": "plan_90d", "request": "A plan for a bakery that delivers by bicycle", "auto_approve": True}
TICKS = os.sysconf("SC_CLK_TCK")
PRODUCT = "import sys; from vm_webapp.cli import main; sys.exit(main(sys.argv[1:]))"
PARTS = ("API", "worker", "PostgreSQL")


@dataclass(frozen=True, slots=True)
class Options:
    """What a contender's API and worker have beside what both have.

    Attributes:
        env: further variables.
        first: Python that the processes execute before anything else.
    """

    env: Mapping[str, str]
    first: str = ""


class Contender:
    """Servers, an API and a worker.

    Args:
        given: the servers.
        api: the API's process.
        worker: the worker's process.
        postgres: the process id of PostgreSQL.
        client: calls the API.
    """

    def __init__(self, given: Servers, api: Program, worker: Program, postgres: int, client: httpx.Client) -> None:
        self._given = given
        self._pids = (api.pid, worker.pid)
        self._postgres = postgres
        self._client = client

    def carry(self, count: int) -> None:
        """Create so many runs, and wait for their end."""
        for _ in range(count):
            self._client.post("/runs", json=NEW_RUN).raise_for_status()
        unfinished = "SELECT 1 FROM runs WHERE finished_at IS NULL LIMIT 1"
        eventually(lambda: not read(self._given, unfinished), "every run is finished", seconds=300, every=0.2)

    def cpu_seconds(self) -> tuple[float, ...]:
        """Return the CPU time so far of each of ``PARTS``, with that of their processes that have ended."""
        return (*map(_of_process, self._pids), sum(map(_of_process, [self._postgres, *_children(self._postgres)])))


def compare(part: str, description: str | None, off: Options, on: Options) -> None:
    """Read the command line, measure in alternating rounds, and print what the part adds to a stage.

    Args:
        part: what is on or off.
        description: of the command.
        off: without the part.
        on: with it.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=positive, default=40, help="how often each of the two carries a batch (40)")
    parser.add_argument("--count", type=positive, default=10, help="runs in each batch (10)")
    given = parser.parse_args()
    with ExitStack() as stack:
        model = stack.enter_context(_model())
        both = [stack.enter_context(_running(each, model)) for each in (off, on)]
        for each in both:
            each.carry(WARM_UP)
        idle = _idle(both[0])
        costs = _measure(both, given.rounds, given.count, idle)
    _print(part, costs)


def _measure(both: Sequence[Contender], rounds: int, count: int, idle: Sequence[float]) -> list[list[list[float]]]:
    """Return the milliseconds of a stage by contender, round and part.

    What follows a batch, such as sending its spans, falls into the turn of the other one: a contender is looked at when
    its own next turn begins. What it would have used without any work is taken off.
    """
    costs: list[list[list[float]]] = [[], []]
    last: list[tuple[float, Sequence[float]]] = [(time.monotonic(), each.cpu_seconds()) for each in both]
    for number in range(rounds):
        for which, contender in enumerate(both):
            if number:
                last[which] = _note(costs[which], contender, last[which], count, idle)
            else:
                last[which] = (time.monotonic(), contender.cpu_seconds())
            contender.carry(count)
    time.sleep(IDLE_SECONDS)
    for which, contender in enumerate(both):
        _note(costs[which], contender, last[which], count, idle)
    return costs


def _note(
    costs: list[list[float]],
    contender: Contender,
    last: tuple[float, Sequence[float]],
    count: int,
    idle: Sequence[float],
) -> tuple[float, Sequence[float]]:
    at, used = time.monotonic(), contender.cpu_seconds()
    seconds = at - last[0]
    spent = [now - before - each * seconds for now, before, each in zip(used, last[1], idle, strict=True)]
    costs.append([1000 * each / (count * STAGES) for each in spent])
    return at, used


def _idle(contender: Contender) -> list[float]:
    """Return the CPU time that each part uses in a second without any work."""
    time.sleep(IDLE_SECONDS)
    before = contender.cpu_seconds()
    time.sleep(2 * IDLE_SECONDS)
    used = zip(contender.cpu_seconds(), before, strict=True)
    return [(now - then) / (2 * IDLE_SECONDS) for now, then in used]


def _print(part: str, costs: Sequence[Sequence[Sequence[float]]]) -> None:
    off, on = costs
    for name, rounds in (("off", off), ("on", on)):
        parts = ", ".join(f"{what} {median(each[at] for each in rounds):.2f}" for at, what in enumerate(PARTS))
        print(f"{name:3}: {median(map(sum, rounds)):.2f} ms of CPU for a stage ({parts})")
    shares = sorted(100 * (sum(more) - sum(less)) / sum(less) for less, more in zip(off, on, strict=True))
    whole = 100 * (sum(map(sum, on)) / sum(map(sum, off)) - 1)
    low, high = shares[len(shares) // 4], shares[-1 - len(shares) // 4]
    middle = 100 * (median(map(sum, on)) / median(map(sum, off)) - 1)
    print(f"{part} add {middle:+.1f} % by the medians of the rounds, {whole:+.1f} % over all of them together,")
    print(f"and in half of the {len(shares)} rounds from {low:+.1f} to {high:+.1f} %")


@contextmanager
def _running(options: Options, model: str) -> Iterator[Contender]:
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder("vm-cost-"))
        redis = stack.enter_context(own_redis())
        postgres = OwnServer(lambda: EmbeddedPostgres(folder / "postgres", durable=True))
        postgres.start()
        stack.callback(postgres.stop)
        migrate.apply_pending(postgres.url)
        env = managed_environment(
            postgres.url, redis.url, folder, VM_API_TOKEN=TOKEN, KIMI_API_KEY="sk-test", KIMI_BASE_URL=model
        )
        env |= {"VM_REQUESTS_PER_MINUTE": "10000000", "LOG_LEVEL": "WARNING", "VM_WORKER_THREADS": "8", **options.env}

        def start(*arguments: str) -> Program:
            process = Program([sys.executable, "-c", options.first + PRODUCT, *arguments], env, folder / arguments[0])
            stack.callback(process.stop)
            return process

        api, worker = start("serve", "--port", "0"), start("worker")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client = httpx.Client(base_url=f"{address_of(api)}/api/v2", headers=headers, trust_env=False, timeout=60)
        given = Servers(postgres.url, redis.url, folder)
        postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        yield Contender(given, api, worker, postmaster, stack.enter_context(client))


@contextmanager
def _model() -> Iterator[str]:
    """Run a model server of its own process; yield its base URL."""
    command = [sys.executable, "-m", "benchmarks.streaming_model"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _of_process(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / TICKS


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
