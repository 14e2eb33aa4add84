"""The doctor says what keeps the audit trail from being rewritten, and what to type where nothing does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.db.schemas import run_sql
from tests.ops.doctor_checks import checks
from tests.support.audit import add, seal_all, tamper
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.ops.doctor.audit import KEPT, NEEDED, NEEDED_OF_HEAD, PRUNE
from vm_webapp.ops.doctor.check import Check

ROLE = "Service"


def examined() -> Check:
    """Return the doctor's check of the audit trail."""
    return checks()["audit"]


@pytest.fixture
def service(database: str) -> Iterator[str]:
    """Open the pool with a role of the service's own, which may do what it always may and more."""
    run_sql(database, f'CREATE ROLE "{ROLE}" LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO "{ROLE}"')
    close_pool()
    open_pool(database.replace("postgres@", f"{ROLE}@"), max_connections=4, application_name="tests")
    yield database
    close_pool()
    open_pool(database, max_connections=4, application_name="tests")
    run_sql(database, f'DROP OWNED BY "{ROLE}"; DROP ROLE "{ROLE}"')


def test_a_role_that_owns_the_tables_is_held_by_triggers(database: str) -> None:
    found = examined()
    assert (found.verdict, found.detail.split(";")[0]) == ("ok", "append-only by trigger")


def test_what_is_typed_makes_it_hold_by_privilege(service: str) -> None:
    found = examined()
    grant = f'GRANT EXECUTE ON FUNCTION {PRUNE} TO "{ROLE}"'
    assert (found.verdict, found.next) == ("fail", f"as the owner: {grant}")
    run_sql(service, grant)
    found = examined()
    revoke = f'REVOKE UPDATE, DELETE, TRUNCATE, TRIGGER ON {", ".join(KEPT)} FROM "{ROLE}"'
    assert (found.verdict, found.next) == ("warn", f"as the owner: {revoke}")
    run_sql(service, revoke)
    assert examined() == Check(
        "audit", "ok", f'append-only by trigger, and by privilege: "{ROLE}" may neither change nor delete rows'
    )
    add("run:1")
    assert seal_all() == 1


def test_every_right_that_is_missing_is_named(service: str) -> None:
    run_sql(service, f'REVOKE ALL ON {", ".join((*KEPT, "audit_head"))} FROM "{ROLE}"')
    run_sql(service, f'GRANT SELECT ON {", ".join((*KEPT, "audit_head"))} TO "{ROLE}"')
    found = examined()
    for table, rights in {**NEEDED, "audit_head": NEEDED_OF_HEAD}.items():
        assert (f'GRANT {rights} ON {table} TO "{ROLE}"' in found.next) == ("INSERT" in rights)
    run_sql(service, found.next.removeprefix("as the owner: "))
    assert examined().verdict == "ok"


@pytest.mark.parametrize("table", KEPT)
def test_a_trigger_that_is_switched_off_is_named_with_the_statement(database: str, table: str) -> None:
    run_sql(database, f"ALTER TABLE {table} DISABLE TRIGGER only_added")
    found = examined()
    assert found.verdict == "warn"
    assert found.next == f"ALTER TABLE {table} ENABLE TRIGGER only_added"
    run_sql(database, found.next)
    run_sql(database, f"DROP TRIGGER never_emptied ON {table}")
    assert examined().next == f"create never_emptied on {table} again, as in migration 0013_audit"


def test_entries_that_nobody_seals_are_counted(database: str) -> None:
    add("run:1", "run:2")
    assert examined().verdict == "ok"
    tamper(database, "UPDATE audit_entries SET at = at - interval '6 minutes'")
    found = examined()
    assert (found.verdict, found.detail) == ("warn", "2 entries have not been sealed for more than 5 minutes")
    seal_all()
    assert examined().verdict == "ok"
