"""What the program does with each of its tables, and so which modes of a table lock hold it up.

A lock on a table conflicts with a statement by its mode: one that reads with ACCESS EXCLUSIVE alone, one that locks
rows also with EXCLUSIVE, one that writes also with SHARE and SHARE ROW EXCLUSIVE. The weaker modes, such as those of
``pg_dump`` and of autovacuum, hold up nothing that the program does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# As pg_locks spells them.
BY_STRENGTH = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
HOLD_UP_READS = frozenset({"AccessExclusiveLock"})
HOLD_UP_WRITES = frozenset(BY_STRENGTH)
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TableUse:
    """Which modes of a lock on one table matter.

    Attributes:
        stop_work: modes with which no run is created, or no stage claimed or finished.
        hinder: further modes, with which something else waits.
        hindered: what then waits.
    """

    stop_work: frozenset[str]
    hinder: frozenset[str] = NONE
    hindered: str = ""


_EVERY_STEP = TableUse(HOLD_UP_WRITES)
_SEALING = TableUse(NONE, HOLD_UP_WRITES, "sealing the audit trail, and checking it")
_MIGRATIONS = TableUse(NONE, HOLD_UP_WRITES, "migrations and workers that start")

USES: Mapping[str, TableUse] = MappingProxyType(
    {
        "runs": _EVERY_STEP,
        "stages": _EVERY_STEP,
        "snapshots": _EVERY_STEP,
        "events": _EVERY_STEP,
        "artifacts": _EVERY_STEP,
        "worker_heartbeats": _EVERY_STEP,
        # Written when a call has ended, well or not.
        "providers": _EVERY_STEP,
        # Read by every claim, and written by operators alone.
        "queues": TableUse(HOLD_UP_READS, HOLD_UP_WRITES, "pausing and resuming the queue"),
        # Read with every heartbeat, and never written.
        "installation": TableUse(HOLD_UP_READS),
        # Read by every claim, too, for the limits.
        "brands": TableUse(HOLD_UP_READS, HOLD_UP_WRITES, "requests about brands, and new runs with one"),
        "projects": TableUse(NONE, HOLD_UP_WRITES, "requests about projects, and new runs with one"),
        "idempotency_keys": TableUse(NONE, HOLD_UP_WRITES, "requests with an Idempotency-Key"),
        "api_keys": TableUse(NONE, HOLD_UP_WRITES, "requests with an API key"),
        # Written with every run that is created, and with every other change.
        "audit_entries": _EVERY_STEP,
        "audit_seals": _SEALING,
        "audit_head": _SEALING,
        "audit_pruned": TableUse(NONE, HOLD_UP_WRITES, "removing old entries of the audit trail, and checking it"),
        "sessions": TableUse(NONE, HOLD_UP_WRITES, "requests of browsers in which somebody has signed in"),
        # Requests go on after a second, each process with its share of the limit.
        "rate_windows": TableUse(NONE, HOLD_UP_WRITES, "signing in, and the first requests of a key"),
        "runs_of_day": TableUse(NONE, HOLD_UP_WRITES, "new runs of keys that may create so many a day"),
        # Written when a call has ended; read by the claims for brands with a budget.
        "unsummed_calls": _EVERY_STEP,
        "usage_days": TableUse(HOLD_UP_READS, HOLD_UP_WRITES, "summing up what calls have cost"),
        "process_metrics": TableUse(NONE, HOLD_UP_WRITES, "publishing metrics"),
        "duty_leases": TableUse(NONE, HOLD_UP_WRITES, "decisions on the number of workers, and scaling"),
        "autoscale_decision": TableUse(NONE, HOLD_UP_WRITES, "decisions on the number of workers"),
        "queue_history": TableUse(NONE, HOLD_UP_WRITES, "keeping the queue's figures of the last hours"),
        "scale_calls": TableUse(NONE, HOLD_UP_WRITES, "scaling"),
        "saved_views": TableUse(NONE, HOLD_UP_WRITES, "saving views of the list of runs"),
        "_yoyo_migration": _MIGRATIONS,
        "_migration_archive": _MIGRATIONS,
        "yoyo_lock": _MIGRATIONS,
        "_yoyo_log": _MIGRATIONS,
        "_yoyo_version": _MIGRATIONS,
    }
)
