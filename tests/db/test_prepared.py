"""Prepared statements: once for each connection, and again after what makes them invalid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peewee import NotSupportedError

from tests.support.runs import create, lost_hints
from vm_webapp.db.compiled import param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import autocommit, database, execute, execute_along, row, rows, transaction
from vm_webapp.db.prepared import Prepared, prepared
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.runs import lifecycle, queries

pytestmark = pytest.mark.usefixtures("database")

SUM = Prepared("SELECT %(a)s::integer + %(b)s::integer AS sum, %(a)s::integer %% 7 AS rest")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that this process sends, without BEGIN, COMMIT and PREPARE."""
    statements: list[str] = []
    send: Callable[..., Any] = database.execute_sql

    def note(sql: str, *arguments: Any, **options: Any) -> Any:
        statements.append(sql)
        return send(sql, *arguments, **options)

    monkeypatch.setattr(database, "execute_sql", note)
    return statements


def names() -> list[str]:
    """Return what this connection's session has prepared."""
    return [each["name"] for each in rows("SELECT name FROM pg_prepared_statements ORDER BY name")]


def test_a_statement_is_prepared_once_for_each_connection(sent: list[str]) -> None:
    for a in range(3):
        with autocommit():
            assert row(SUM, a=a, b=40) == {"sum": a + 40, "rest": a}
    assert {sql.split(" ")[0] for sql in sent} == {"EXECUTE"}
    with autocommit():
        assert len(names()) == 1


def test_values_that_a_query_was_built_with_stand_in_its_text() -> None:
    query = prepared(Stage.select(Stage.id).where(Stage.status == "running", Stage.key == param("key")).limit(1))
    assert query.preparing("p").endswith("""WHERE (("t1"."status" = 'running') AND ("t1"."key" = $1)) LIMIT 1""")
    with transaction():
        assert rows(query, key="none") == []


def test_a_plan_that_serves_every_value_uses_the_partial_index_of_a_constant() -> None:
    with lost_hints():
        for _ in range(300):
            create()
    with autocommit():
        execute("ANALYZE")
    lifecycle.rescue_expired_leases()
    with autocommit():
        (name,) = [
            each["name"]
            for each in rows("SELECT name, statement FROM pg_prepared_statements")
            if "lease_expires_at" in each["statement"]
        ]
        plan = str(rows(f"EXPLAIN EXECUTE {name}"))
    assert "stages_leased" in plan, plan


def test_what_is_prepared_is_planned_once() -> None:
    with lost_hints():
        newest = [create().run.id for _ in range(8)]
        # Without statistics PostgreSQL would not see that a plan for these very values seems to be cheaper.
        with autocommit():
            execute("ANALYZE")
        for _ in range(8):
            create()
            queries.list_runs(queries.RunFilter(status="queued"), limit=3, after=None)
            queries.get_run(newest[0])
    with autocommit():
        (plans,) = rows("SELECT sum(generic_plans) AS kept, sum(custom_plans) AS made FROM pg_prepared_statements")
    assert plans["kept"] > 20
    assert plans["made"] == 0


def test_a_compiled_query_can_be_prepared() -> None:
    query = prepared(Run.select(Run.id).where(Run.workflow == param("workflow"), Run.priority == 0))
    with transaction():
        assert rows(query, workflow="none") == []


def test_what_somebody_deallocated_is_prepared_again() -> None:
    with autocommit():
        assert row(SUM, a=1, b=1) == {"sum": 2, "rest": 1}
        execute("DEALLOCATE ALL")
        assert row(SUM, a=1, b=2) == {"sum": 3, "rest": 1}


def test_a_migration_that_changes_a_type_does_not_break_the_sessions_that_are_open() -> None:
    with transaction():
        execute("CREATE TABLE changing (value integer)")
        execute("INSERT INTO changing VALUES (7)")
    read = Prepared("SELECT value FROM changing WHERE value::text = %(text)s::text")
    with autocommit():
        assert row(read, text="7") == {"value": 7}
        execute("ALTER TABLE changing ALTER value TYPE text")
        assert row(read, text="7") == {"value": "7"}
        assert len(names()) == 2  # the outdated one stays, unused, until the connection ends


def test_inside_a_transaction_the_error_is_raised_and_the_next_one_succeeds() -> None:
    with transaction():
        execute("CREATE TABLE changing (value integer)")
    read = Prepared("SELECT value FROM changing")
    with autocommit():
        assert rows(read) == []
        execute("ALTER TABLE changing ALTER value TYPE text")
        # Its first statement has failed, so the transaction cannot go on with another one.
        with pytest.raises(NotSupportedError), transaction():
            rows(read)
    with transaction():
        assert rows(read) == []


@pytest.mark.parametrize("next_one", ["SELECT 1 AS one", None], ids=["a statement", "COMMIT"])
def test_what_is_sent_along_is_prepared_again_as_well(next_one: str | None) -> None:
    def send_along() -> None:
        with transaction():
            execute_along(SUM, a=1, b=1)
            if next_one:
                assert row(next_one) == {"one": 1}

    send_along()
    with autocommit():
        execute("DEALLOCATE ALL")
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        send_along()
    send_along()
