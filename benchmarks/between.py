"""How long it takes from the end of a call to the start of the run's next one, with a model that responds at once.

One run at a time is in flight. What is measured is the time in the worker's process: the end of the stage with its
text, the claim of the next stage, and its prompt.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from uuid import UUID

from actors import connected
from benchmarks.drain import Servers
from benchmarks.drain import read as read_directly
from benchmarks.figures import Contender, Values
from benchmarks.instant_model import Call, write
from benchmarks.limit import FILL_MINIMAL, MINIMAL, MINIMAL_TABLES, STAGES, drain_by_hand
from tests.chaos.ledger import quantile
from tests.support.deployment import managed_environment
from tests.support.processes import Program
from tests.support.runs import create, read
from tests.support.waiting import eventually

WARM_UP = 10
EVERY_SECONDS = 0.01


def by_hand(servers: Servers, runs: int) -> Values:
    """Return the times of the loop by hand with one thread over minimal tables: the limit."""
    read_directly(servers, MINIMAL_TABLES)
    read_directly(servers, FILL_MINIMAL, runs + WARM_UP)
    read_directly(servers, "ANALYZE minimal.runs, minimal.stages")
    calls: list[Call] = []

    def timed() -> str:
        began = time.perf_counter()
        text = write()
        calls.append((began, time.perf_counter()))
        return text

    drain_by_hand(servers.database_url, MINIMAL, 1, timed)
    return _between(calls, runs)


def ours(servers: Servers, runs: int) -> Values:
    """Return the times of one worker, in managed mode and all else as it comes."""
    read_directly(servers, "TRUNCATE runs CASCADE")
    calls = servers.folder / f"calls-{time.monotonic_ns()}.json"
    env = managed_environment(servers.database_url, servers.redis_url, servers.folder, BENCH_CALLS_FILE=str(calls))
    program = Program([sys.executable, "-m", "benchmarks.instant_worker"], env, calls.with_suffix(""))
    try:
        with connected(servers.redis_url):
            for _ in range(runs + WARM_UP):
                _run_one(create("plan_90d", "A plan for a bakery", auto_approve=True).run.id)
    finally:
        program.stop()
    return _between(json.loads(calls.read_text()), runs)


def _run_one(run: UUID) -> None:
    sql = "SELECT 1 FROM runs WHERE id = %(run)s AND status = 'completed'"
    eventually(lambda: read(sql, run=run), f"run {run} has ended", seconds=60, every=EVERY_SECONDS)


def pauses(calls: Sequence[Sequence[float]]) -> list[float]:
    """Return the pauses within runs, in milliseconds and ascending order.

    Args:
        calls: when each call began and ended, in seconds; those of one run after another.
    """
    within = (number for number in range(len(calls)) if number % STAGES)
    return sorted(1000 * (calls[number][0] - calls[number - 1][1]) for number in within)


def _between(calls: Sequence[Sequence[float]], runs: int) -> Values:
    assert len(calls) == (runs + WARM_UP) * STAGES, "each stage was called once"
    found = pauses(calls[WARM_UP * STAGES :])
    return {"p50_ms": quantile(found, 0.5), "p95_ms": quantile(found, 0.95)}


CONTENDERS: dict[str, Contender] = {"by hand, minimal tables (limit)": by_hand, "VM Webapp": ours}
