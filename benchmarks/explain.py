"""What every hot statement costs with ten thousand and with a million finished runs, and 1,000 that are queued.

uv run python -m benchmarks explain [--runs 1000000]

Fills a PostgreSQL of its own, which takes about five minutes and 15 GB of disk for a million runs, and writes
benchmarks/results/plans.json and docs/plans.md. ``refresh`` then makes the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from uuid import uuid4

from benchmarks.conditions import read_conditions
from benchmarks.explained import Explained
from benchmarks.filled import filled_servers
from benchmarks.history import PROVIDER, add_finished_runs, carry
from benchmarks.hot_statements import explain_hot_statements, new_run
from benchmarks.plans import Cost, Growth, Plans
from benchmarks.queue_traffic import COPY_RUNS
from benchmarks.results import PLANS
from tests.support.processes import ROOT
from tests.support.runs import lost_hints, read
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, transaction
from vm_webapp.execution.leases import renew_leases
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant

PAGE = ROOT / "docs" / "plans.md"
FEW = 10_000
QUEUED = 1000
GROWN = 2000  # runs that are carried to their end while the log's bytes are counted
LEASES, RENEWALS = 200, 50
TABLES = ("runs", "stages", "artifacts", "events")


def main(arguments: Sequence[str]) -> None:
    """Explain, and write the page and the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks explain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=1_000_000, help=f"finished runs, more than {FEW:,} (1000000)")
    given = parser.parse_args(arguments)
    if given.runs <= FEW:
        parser.error(f"--runs must be more than {FEW:,}, with which it is compared")
    explain((FEW, given.runs))


def explain(sizes: Sequence[int]) -> None:
    """Explain with so many finished runs, one number after another."""
    with filled_servers(lambda url: {size: _explain_with(url, size) for size in sizes}) as (servers, found):
        plans = Plans(read_conditions(servers), costs(found), _measure_growth(sizes[-1]))
    plans.save(PLANS)
    PAGE.write_text(page(found[sizes[-1]], sizes[-1]))


def costs(found: dict[int, dict[str, Explained]]) -> dict[str, dict[int, Cost]]:
    """Return what each statement costs with each number of runs."""
    names = dict.fromkeys(name for explained in found.values() for name in explained)
    return {
        name: {
            size: Cost(explained[name].ms, explained[name].pages, explained[name].read_first)
            for size, explained in found.items()
            if name in explained
        }
        for name in names
    }


def page(explained: dict[str, Explained], runs: int) -> str:
    """Return the page of plans."""
    parts = [
        f"# Plans of the hot statements\n\nMade by `uv run python -m benchmarks explain`, with {runs:,} finished runs"
        f" and {QUEUED:,} queued ones. [performance.md](performance.md#growth) has the table.\n"
    ]
    parts += [f"## {name}\n\n```\n{each.plan}\n```\n" for name, each in explained.items()]
    return "\n".join(parts)


def _explain_with(url: str, runs: int) -> dict[str, Explained]:
    began = time.monotonic()
    with transaction():
        execute("TRUNCATE runs CASCADE")
    add_finished_runs(url, runs)
    with lost_hints(), transaction():
        model = lifecycle.create_run(new_run(), actor=Actor("benchmark")).id
        execute(COPY_RUNS, model=model, count=QUEUED - 1)
        execute("ANALYZE runs, stages")
    print(f"{runs:,} runs after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return explain_hot_statements()


def _measure_growth(runs: int) -> Growth:
    """Return what a run needs: on the disk, of all that there are, and in the log, of some that are carried now."""
    sizes = {table: read(f"SELECT pg_total_relation_size('{table}') AS bytes")[0]["bytes"] / runs for table in TABLES}
    grown = _counted(lambda: _carry_runs(GROWN), GROWN)
    renewed = _counted(_renew_leases, RENEWALS * LEASES)
    return Growth(
        {table: round(size) for table, size in sizes.items()}, renewal_wal_bytes=renewed["wal_bytes"], **grown
    )


def _counted(act: Callable[[], object], times: int) -> dict[str, float]:
    """Return what each of so many changes has added to PostgreSQL's counters."""
    before = _counters()
    act()
    after = _counters()
    return {name: round((after[name] - before[name]) / times, 2) for name in after}


def _renew_leases() -> None:
    worker = Claimant(uuid4(), PROVIDER)
    held = lifecycle.claim_due_stages(worker, [uuid4() for _ in range(LEASES)]).claims
    for _ in range(RENEWALS):
        renewed = renew_leases({claim.token: 600.0 for claim in held})
        assert len(renewed) == LEASES


def _carry_runs(count: int) -> None:
    worker = Claimant(uuid4(), PROVIDER)
    with lost_hints():
        for _ in range(count // 8):
            for _ in range(8):
                lifecycle.create_run(new_run(), actor=Actor("benchmark"))
            for claim in lifecycle.claim_due_stages(worker, [uuid4() for _ in range(8)]).claims:
                carry(claim, worker)


def _counters() -> dict[str, float]:
    read("SELECT pg_stat_force_next_flush()")
    (found,) = read(
        """
        SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS wal_bytes,
               xact_commit::float8 AS commits, (SELECT max(id) FROM events)::float8 AS events
          FROM pg_stat_database WHERE datname = current_database()
        """
    )
    return found
