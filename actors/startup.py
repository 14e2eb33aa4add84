"""Decides whether a worker may start work: the schema must fit this build, and the server have connections left."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from peewee import DatabaseError

from vm_webapp.db import migrate
from vm_webapp.db.bundle import own_bundle
from vm_webapp.db.pool import OPERATOR_CONNECTIONS, close_idle, is_crowded, refusal, rows, transaction
from vm_webapp.errors import DatabaseFull, DatabaseUnavailable, VMError
from vm_webapp.fleet.alive import ALIVE
from vm_webapp.fleet.heartbeats import ClockSteppedBack, Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.local.by_mode import Servers
from vm_webapp.settings import Settings
from vm_webapp.text import shortened

NEEDED = OPERATOR_CONNECTIONS + 1  # the first of the pool; the maintenance loop has its own already
CROWDED = (
    f"the database has fewer than {NEEDED} connections free, and {OPERATOR_CONNECTIONS} are left to migrate, doctor and"
    f" queue: {DatabaseFull.todo}"
)


def prepare_schema(servers: Servers, settings: Settings, identity: WorkerIdentity) -> str:
    """Check that the schema fits this build and that the server is not full. Outside managed mode, apply migrations.

    Until then, the worker's heartbeat says ``starting`` and the reason.

    Returns:
        Why the worker cannot start work yet, empty when it can.
    """
    try:
        # On the pulse's connection and not a session of its own, which a pooler may not give.
        with transaction(durable=False):
            crowded = is_crowded(NEEDED)
            schema = migrate.compare(own_bundle(), migrate.read_applied(rows))
        if schema.pending and not schema.too_new and not settings.managed:
            migrate.apply_pending(servers.session_url, alive=ALIVE)
            return ""
        obstacle = CROWDED if crowded else schema.obstacle
    except DatabaseError as error:
        obstacle = str(refusal(error))
    except VMError as error:
        obstacle = str(error)
    if obstacle:
        _report_starting(identity, obstacle)
        close_idle()  # while it waits, others may have it
    return obstacle


def _report_starting(identity: WorkerIdentity, obstacle: str) -> None:
    waiting = {"error": shortened(f"waiting to start: {obstacle}"), "at": datetime.now(UTC).isoformat()}
    # In an older or newer schema the table may be missing or different. Then only the log shows the reason.
    with suppress(DatabaseError, DatabaseUnavailable, ClockSteppedBack):
        write_heartbeat(identity, Heartbeat("starting", 0, last_error=waiting))
