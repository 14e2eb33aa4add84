"""How many bytes a finished run of three stages takes on the disk, indexes included, after VACUUM.

Runs are created as requests create them, with their events and their entries in the audit trail.
"""

from __future__ import annotations

import sys
from contextlib import closing

import psycopg2

from benchmarks.drain import LIMIT_THREADS, PYTHON, Servers, drained_by_process, read
from benchmarks.instant_model import write
from benchmarks.limit import FILL_MINIMAL, MINIMAL, MINIMAL_TABLES, drain_by_hand
from tests.support.runs import create, lost_hints

SIZES = """
    SELECT c.oid::regclass::text, pg_total_relation_size(c.oid)
      FROM pg_class c WHERE relkind = 'r' AND relnamespace = %s::regnamespace
"""


def by_hand_on_minimal_tables(servers: Servers, runs: int) -> dict[str, float]:
    """Return the bytes of tables that have nothing but what a loop needs: the limit."""
    read(servers, MINIMAL_TABLES)
    before = _sizes(servers, "minimal")
    read(servers, FILL_MINIMAL, runs)
    drain_by_hand(servers.database_url, MINIMAL, LIMIT_THREADS, write)
    return _grown(servers, "minimal", before, runs)


def ours(servers: Servers, runs: int) -> dict[str, float]:
    """Return the bytes of the product's tables, and print those of each table."""
    before = _sizes(servers, "public")
    with lost_hints():
        for number in range(runs):
            create("plan_90d", f"A plan for a bakery that delivers by bicycle, {number}", auto_approve=True)
    drained_by_process(servers, runs, [*PYTHON, "benchmarks.instant_worker"])
    return _grown(servers, "public", before, runs)


def _grown(servers: Servers, schema: str, before: dict[str, int], runs: int) -> dict[str, float]:
    with closing(psycopg2.connect(servers.database_url)) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute("VACUUM")
    grown = {table: size - before[table] for table, size in _sizes(servers, schema).items()}
    for table, size in sorted(grown.items(), key=lambda each: -each[1]):
        if size:
            print(f"  {table}: {size / runs:,.0f} bytes a run", file=sys.stderr, flush=True)
    return {"bytes": sum(grown.values()) / runs}


def _sizes(servers: Servers, schema: str) -> dict[str, int]:
    return dict(read(servers, SIZES, schema))


CONTENDERS = {"by hand, minimal tables (limit)": by_hand_on_minimal_tables, "VM Webapp": ours}
