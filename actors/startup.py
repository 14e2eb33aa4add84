"""Decides whether a worker may start work: the database schema must fit this build."""

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
    """Check that the schema fits this build. Outside managed mode, apply pending migrations.

    Until the schema fits, the worker's heartbeat says ``starting`` and the reason.

    Returns:
        Why the worker cannot start work yet, empty when it can.
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
        _report_starting(identity, obstacle)
    return obstacle


def _report_starting(identity: WorkerIdentity, obstacle: str) -> None:
    waiting = {"error": shortened(f"waiting to start: {obstacle}"), "at": datetime.now(UTC).isoformat()}
    # In an older or newer schema the table may be missing or different. Then only the log shows the reason.
    with suppress(DatabaseError, DatabaseUnavailable):
        write_heartbeat(identity, Heartbeat("starting", 0, last_error=waiting))
