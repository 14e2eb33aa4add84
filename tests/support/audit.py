"""Adds, reads and tampers with the audit trail."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg2

from tests.support.runs import read
from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.access.audit.sealing import is_sealing_due, seal_batch
from vm_webapp.db.pool import transaction

ANN = Actor("key:ann", "editor", "person-1", address="192.0.2.7", request_id="a-request")


def add(*targets: str, actor: Actor = ANN, action: str = "run.cancel") -> None:
    """Add an entry for each target, each in a transaction of its own."""
    for target in targets:
        with transaction():
            record(actor, action, target, data={"number": 1, "names": ["ä", 'q"\\\n']})


def seal_all() -> int:
    """Seal until nothing is due; return how many entries were sealed."""
    sealed = 0
    while is_sealing_due():
        sealed += seal_batch()
    return sealed


def entries(**where: Any) -> list[dict[str, Any]]:
    """Return the entries whose columns have these values, oldest first."""
    condition = " AND ".join([f"{name} = %({name})s" for name in where] or ["true"])
    return read(f"SELECT * FROM audit_entries WHERE {condition} ORDER BY id", **where)


def chained() -> list[str]:
    """Return the targets in the order of the chain."""
    found = read("SELECT target FROM audit_seals s JOIN audit_entries e ON e.id = s.entry_id ORDER BY position")
    return [each["target"] for each in found]


def tamper(url: str, statements: str) -> None:
    """Run statements as a superuser who has switched the triggers off."""
    with closing(psycopg2.connect(url)) as session, session, session.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statements)
