"""Whether a worker may begin: its database has a schema that this build works with."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from peewee import DatabaseError

from vm_webapp.db import migrate
from vm_webapp.errors import DatabaseUnavailable, VMError
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.local.by_mode import Servers
from vm_webapp.settings import Settings
from vm_webapp.text import shortened


def prepare_schema(servers: Servers, settings: Settings, identity: WorkerIdentity) -> str:
    """Make sure that the database has a schema this build works with, migrating where that is ours to do.

    Until it has, the worker's heartbeat says ``starting`` and why.

    Returns:
        Why work cannot begin yet, empty when it can.
    """
    try:
        schema = migrate.read_status(servers.database_url)
        if schema.pending and not schema.too_new and not settings.managed:
            migrate.apply_pending(servers.database_url, alive=ALIVE, break_leftover_lock=servers.embedded)
            return ""
        obstacle = schema.obstacle
    except VMError as error:
        obstacle = str(error)
    if obstacle:
        _say_starting(identity, obstacle)
    return obstacle


def _say_starting(identity: WorkerIdentity, obstacle: str) -> None:
    waiting = {"error": shortened(f"waiting to start: {obstacle}"), "at": datetime.now(UTC).isoformat()}
    # On a schema of another age the table may be missing or different; then the log alone says it.
    with suppress(DatabaseError, DatabaseUnavailable):
        write_heartbeat(identity, Heartbeat("starting", 0, last_error=waiting))
