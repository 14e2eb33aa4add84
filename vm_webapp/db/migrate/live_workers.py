"""Refuses a schema change while live workers cannot run on the new schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peewee import Expression

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.compiled import COUNT, compiled
from vm_webapp.db.migrate.session import query
from vm_webapp.db.models import WorkerHeartbeat
from vm_webapp.errors import Conflict

# COLLATE "C" compares ids as Python and yoyo do; the database's own may order digits and underscores otherwise.
_newest_migration = WorkerHeartbeat.newest_migration.collate('"C"')


def refuse_to_apply(session: Any, pending: Iterable[MigrationFiles], alive: Expression) -> None:
    """Raise Conflict if the build of a live worker cannot run on these migrations.

    Args:
        session: a direct session.
        pending: the migrations to apply.
        alive: the condition on ``WorkerHeartbeat`` that a worker is alive.
    """
    demanding = max(pending, key=lambda files: files.oldest_build)
    # A worker in ``starting`` waits for this very migration.
    too_old = (_newest_migration < demanding.oldest_build) & (WorkerHeartbeat.state != "starting")
    stopped = _count(session, alive & too_old)
    if stopped:
        raise Conflict(
            f"{stopped} live worker(s) are of a build that cannot run on {demanding.id}:"
            f" deploy one that knows {demanding.oldest_build} first, or stop them, or say --force"
        )


def refuse_to_roll_back(session: Any, steps: Iterable[MigrationFiles], alive: Expression) -> None:
    """Raise Conflict if the build of a live worker needs one of these migrations.

    Args:
        session: a direct session.
        steps: the migrations to roll back.
        alive: the condition on ``WorkerHeartbeat`` that a worker is alive.
    """
    needed = [files.id for files in steps if not files.deferrable]
    if not needed:
        return
    stopped = _count(session, alive & (_newest_migration >= min(needed)))
    if stopped:
        raise Conflict(
            f"{stopped} live worker(s) need {min(needed)}: stop them or deploy an older build, or say --force"
        )


def _count(session: Any, condition: Expression) -> int:
    # The first migration of a new database runs before the table exists.
    if not query(session, "SELECT to_regclass('worker_heartbeats') IS NOT NULL AS found")[0]["found"]:
        return 0
    counted = query(session, compiled(WorkerHeartbeat.select(COUNT.alias("workers")).where(condition)))
    return int(counted[0]["workers"])
