"""Refuses or postpones a schema change while live workers cannot run on the new schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peewee import Expression, Query

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.compiled import COUNT, compiled
from vm_webapp.db.migrate.session import query
from vm_webapp.db.models import WorkerHeartbeat
from vm_webapp.db.pool import Row
from vm_webapp.errors import Conflict

# COLLATE "C" compares ids as Python and yoyo do; the database's own may order digits and underscores otherwise.
_newest_migration = WorkerHeartbeat.newest_migration.collate('"C"')


@dataclass(frozen=True, slots=True)
class Postponed:
    """A deferrable migration that is applied later.

    Attributes:
        id: the migration.
        reason: which live workers it waits for.
    """

    id: str
    reason: str


def refuse_or_postpone(session: Any, pending: Iterable[MigrationFiles], alive: Expression) -> tuple[Postponed, ...]:
    """Return the deferrable ones of these migrations on which the build of a live worker cannot run, oldest first.

    Args:
        session: a direct session.
        pending: the migrations to apply, oldest first.
        alive: the condition on ``WorkerHeartbeat`` that a worker is alive.

    Raises:
        Conflict: the build of a live worker cannot run on one that is not deferrable.
    """
    known = _known_to(session, alive)
    stopped = {files: sum(newest < files.oldest_build for newest in known) for files in pending}
    needed = [files for files, count in stopped.items() if count and not files.deferrable]
    if needed:
        demanding = max(needed, key=lambda files: files.oldest_build)
        raise Conflict(
            f"{stopped[demanding]} live worker(s) are of a build that cannot run on {demanding.id}:"
            f" deploy one that knows {demanding.oldest_build} first, or stop them, or say --force"
        )
    return tuple(
        Postponed(files.id, f"{count} live worker(s) are of a build that cannot run on it")
        for files, count in stopped.items()
        if count
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


def _known_to(session: Any, alive: Expression) -> list[str]:
    """Return the newest migration that each live worker knows."""
    # A worker in ``starting`` waits for these very migrations.
    working = alive & (WorkerHeartbeat.state != "starting")
    found = _of_workers(session, WorkerHeartbeat.select(WorkerHeartbeat.newest_migration).where(working))
    return [each["newest_migration"] for each in found]


def _count(session: Any, condition: Expression) -> int:
    counted = _of_workers(session, WorkerHeartbeat.select(COUNT.alias("workers")).where(condition))
    return int(counted[0]["workers"]) if counted else 0


def _of_workers(session: Any, asked: Query) -> list[Row]:
    # The first migration of a new database runs before the table exists.
    if not query(session, "SELECT to_regclass('worker_heartbeats') IS NOT NULL AS found")[0]["found"]:
        return []
    return query(session, compiled(asked))
