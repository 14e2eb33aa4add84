"""The live workers that a change of the schema would stop: they are asked for before it is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.migrate.session import query
from vm_webapp.errors import Conflict


def refuse_to_apply(session: Any, pending: Iterable[MigrationFiles], alive: str) -> None:
    """Raise Conflict while a live worker is of a build that cannot run on these migrations.

    Args:
        session: a direct session.
        pending: the migrations to apply.
        alive: SQL, the condition on a row of ``worker_heartbeats`` that a worker is alive.
    """
    demanding = max(pending, key=lambda files: files.oldest_build)
    stopped = _count(
        session,
        "newest_migration COLLATE \"C\" < %(limit)s AND state <> 'starting'",
        demanding.oldest_build,
        alive,
    )
    if stopped:
        raise Conflict(
            f"{stopped} live worker(s) are of a build that cannot run on {demanding.id}:"
            f" deploy one that knows {demanding.oldest_build} first, or stop them, or say --force"
        )


def refuse_to_roll_back(session: Any, steps: Iterable[MigrationFiles], alive: str) -> None:
    """Raise Conflict while a live worker is of a build that needs one of these migrations.

    Args:
        session: a direct session.
        steps: the migrations to roll back.
        alive: SQL, the condition on a row of ``worker_heartbeats`` that a worker is alive.
    """
    needed = [files.id for files in steps if not files.deferrable]
    if not needed:
        return
    stopped = _count(session, 'newest_migration COLLATE "C" >= %(limit)s', min(needed), alive)
    if stopped:
        raise Conflict(
            f"{stopped} live worker(s) need {min(needed)}: stop them or deploy an older build, or say --force"
        )


def _count(session: Any, condition: str, limit: str, alive: str) -> int:
    if not query(session, "SELECT to_regclass('worker_heartbeats') IS NOT NULL AS found")[0]["found"]:
        return 0
    counted = query(
        session,
        f"""
        SELECT count(*) AS workers FROM worker_heartbeats WHERE {alive} AND {condition}
        """,
        limit=limit,
    )
    return int(counted[0]["workers"])
