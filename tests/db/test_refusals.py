"""The errors for a PostgreSQL that responds but refuses a statement."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest
from peewee import ProgrammingError

from vm_webapp.db.pool import execute, refusal, transaction
from vm_webapp.errors import DatabaseBusy, DatabaseReadOnly, DatabaseRefused, DatabaseUnavailable

LOCK = "SELECT pg_advisory_lock(1)"


@pytest.mark.parametrize(
    ("sql", "kind", "message", "todo"),
    [
        (
            f"SET LOCAL lock_timeout = '1ms'; {LOCK}",
            DatabaseBusy,
            "canceling statement due to lock timeout",
            "python -m vm_webapp doctor names the session",
        ),
        (
            f"SET LOCAL statement_timeout = '1ms'; {LOCK}",
            DatabaseBusy,
            "canceling statement due to statement timeout",
            "python -m vm_webapp doctor names the session",
        ),
        (
            "SET TRANSACTION READ ONLY; CREATE TABLE written ()",
            DatabaseReadOnly,
            "cannot execute CREATE TABLE in a read-only transaction",
            "point VM_DB_URL at the primary",
        ),
    ],
)
def test_a_server_that_responds_is_not_reported_as_down(
    database: str, sql: str, kind: type[DatabaseUnavailable], message: str, todo: str
) -> None:
    # Another session holds the lock, so that the statement's time-out ends a real wait.
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute(LOCK)
        with pytest.raises(DatabaseUnavailable) as refused, transaction():
            execute(sql)
    assert type(refused.value) is kind
    assert (refused.value.driver_message, todo in refused.value.todo) == (message, True)
    assert str(refused.value) == f"{message}: {refused.value.todo}"
    # Workers and clients retry as they do in any other outage.
    assert (refused.value.permanent, refused.value.code) == (False, "database_unavailable")


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT * FROM nothing",
            '(relation "nothing" does not exist): run python -m vm_webapp migrate; if nothing',
        ),
        (
            "SELECT nothing FROM runs",
            '(column "nothing" does not exist): run python -m vm_webapp migrate; if nothing',
        ),
        (
            "SET LOCAL ROLE pg_monitor; TABLE pg_authid",
            "permission denied for table pg_authid: grant the role of VM_DB_URL",
        ),
    ],
)
def test_a_refusal_contains_the_message_of_the_server(sql: str, message: str) -> None:
    with pytest.raises(ProgrammingError) as refused, transaction():
        execute(sql)
    error = refusal(refused.value)
    assert isinstance(error, DatabaseRefused)
    assert message in str(error)
    assert "\n" not in str(error)
