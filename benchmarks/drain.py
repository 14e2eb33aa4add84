"""How fast queued runs of three stages are carried to their end: ours, stock Dramatiq and a loop written by hand.

All use the same servers, which write to disk as they do in production, and the same instant model. Each contender
drains as many runs, in turn, round after round: the figures of one round are compared with one another only.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.instant_model import write
from benchmarks.limit import FILL_MINIMAL, MINIMAL, MINIMAL_TABLES, OWN, drain_by_hand
from benchmarks.queue_traffic import COPY_RUNS
from tests.support.processes import Program
from tests.support.runs import create, lost_hints

LIMIT_THREADS = 8
PYTHON = (sys.executable, "-m")
WAIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are, and a folder for the output of processes."""

    database_url: str
    redis_url: str
    folder: Path


def read(servers: Servers, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement in a transaction of its own, and return its rows."""
    with closing(psycopg2.connect(servers.database_url)) as session, session, session.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def running(servers: Servers, command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run a program for the block, with a folder of its own for its output; stop it at the end."""
    program = Program(list(command), env or {}, servers.folder / f"process-{time.monotonic_ns()}")
    try:
        yield program
    finally:
        program.stop()


def by_hand_on_minimal_tables(servers: Servers, runs: int) -> float:
    """Return the runs per second of the loop over tables that have nothing but what it needs: the limit."""
    read(servers, MINIMAL_TABLES)
    read(servers, FILL_MINIMAL, runs)
    read(servers, "ANALYZE minimal.runs, minimal.stages")
    began = time.monotonic()
    drain_by_hand(servers.database_url, MINIMAL, LIMIT_THREADS, write)
    return runs / (time.monotonic() - began)


def by_hand_on_our_tables(servers: Servers, runs: int) -> float:
    """Return the runs per second of the loop over the product's tables, rows and bytes."""
    fill(servers, runs)
    began = time.monotonic()
    drain_by_hand(servers.database_url, OWN, LIMIT_THREADS, write)
    return runs / (time.monotonic() - began)


def with_stock_dramatiq(servers: Servers, runs: int) -> float:
    """Return the runs per second of Dramatiq as it comes, over the product's tables."""
    fill(servers, runs)
    os.environ |= {"BENCH_REDIS_URL": servers.redis_url, "BENCH_DB_URL": servers.database_url}
    from benchmarks.stock_dramatiq import run_stage

    for (run,) in read(servers, "SELECT id::text FROM runs WHERE status = 'queued' ORDER BY id"):
        run_stage.send(run, 1)
    command = ["dramatiq", "benchmarks.stock_dramatiq", "--processes", "1", "--threads", str(LIMIT_THREADS)]
    return drained_by_process(servers, runs, [*PYTHON, *command])


def ours(threads: int) -> Callable[[Servers, int], float]:
    """Return what measures the runs per second of one worker with so many threads, all else as it comes."""

    def measure(servers: Servers, runs: int) -> float:
        fill(servers, runs)
        return drained_by_process(servers, runs, [*PYTHON, "benchmarks.instant_worker"], VM_WORKER_THREADS=str(threads))

    return measure


def fill(servers: Servers, runs: int) -> None:
    """Empty the tables, and queue so many runs as a request would have created them."""
    read(servers, "TRUNCATE runs CASCADE")
    with lost_hints():
        model = create("plan_90d", "A plan for a bakery that delivers by bicycle", auto_approve=True).run.id
    read(servers, COPY_RUNS.replace("%(model)s", f"'{model}'").replace("%(count)s", str(runs - 1)))
    read(servers, "ANALYZE runs, stages")


def drained_by_process(servers: Servers, runs: int, command: list[str], **env: str) -> float:
    """Return the runs per second of a process that drains the queue."""
    env |= {
        "VM_DB_URL": servers.database_url,
        "VM_REDIS_URL": servers.redis_url,
        "VM_ENABLE_MANAGED_MODE": "1",
        "VM_API_TOKEN": "b" * 32,
        "VM_WORKSPACE_ROOT": str(servers.folder / "workspace"),
        "BENCH_DB_URL": servers.database_url,
        "BENCH_REDIS_URL": servers.redis_url,
    }
    with running(servers, command, env) as process:
        deadline = time.monotonic() + WAIT_SECONDS
        while read(servers, "SELECT 1 FROM runs WHERE finished_at IS NULL LIMIT 1"):
            if process.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the queue was not drained: {process.output()[-2000:]}")
            time.sleep(0.2)
    # By the database's clock and from the first claim: the start of the process is another measure.
    ((seconds,),) = read(servers, "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM runs")
    return runs / float(seconds)


CONTENDERS: dict[str, Callable[[Servers, int], float]] = {
    "by hand, minimal tables (limit)": by_hand_on_minimal_tables,
    "by hand, our tables": by_hand_on_our_tables,
    "stock Dramatiq, our tables": with_stock_dramatiq,
    "VM Webapp, 8 threads": ours(8),
    "VM Webapp, 32 threads": ours(32),
}
