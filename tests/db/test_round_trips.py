"""Few messages for a transaction: BEGIN, COMMIT and what returns nothing go along with other statements."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from peewee import IntegrityError, ProgrammingError

from tests.support.statements import counted
from vm_webapp.db.pool import (
    autocommit,
    close_pool,
    execute_along,
    open_pool,
    rows,
    transaction,
)
from vm_webapp.db.prepared import Prepared


@pytest.mark.parametrize("durable", [True, False])
def test_a_transaction_begins_with_its_first_statement_in_one_message(database_url: str, durable: bool) -> None:
    with counted(database_url) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        with transaction(durable=durable):
            rows("SELECT 1 AS opened_the_connection")
        traffic.taken()
        with transaction(durable=durable):
            assert rows("SELECT %(part)s || '%%' AS share", part="7") == [{"share": "7%"}]
            rows("SELECT 1")
        first, second, last = (query.sql for query in traffic.taken())
        assert first.startswith("BEGIN; SELECT " if durable else "BEGIN; SET LOCAL synchronous_commit = off; SELECT ")
        assert (second, last) == ("SELECT 1", "COMMIT")
        with transaction(durable=durable):
            pass
        with suppress(KeyError), transaction(durable=durable):
            raise KeyError
        assert traffic.taken() == []
        with pytest.raises(ProgrammingError), transaction(durable=durable):
            rows("SELECT nonsense")
        assert [query.sql.split(" ")[0] for query in traffic.taken()] == ["BEGIN;", "ROLLBACK"]
        with transaction(durable=durable):
            with pytest.raises(ProgrammingError, match="adapt"):
                rows("SELECT %(value)s", value=object())
            rows("SELECT 1")
        assert [query.sql.split(" ")[0] for query in traffic.taken()] == ["BEGIN;", "COMMIT"]
        assert rows_outside("SELECT 1 AS one") == [{"one": 1}]
        close_pool()


INSERT = Prepared("INSERT INTO brands (id, name) VALUES (uuidv7(), %(name)s)")
NAMES = "SELECT name FROM brands WHERE name <> %(but)s"


def test_a_statement_is_sent_along_with_the_next_one_or_with_commit(database_url: str) -> None:
    with counted(database_url) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        for name in ("first", "100 %"):
            with transaction():
                execute_along(INSERT, name=name)
        traffic.taken()
        with transaction():
            execute_along(INSERT, name="50 %")
            assert {each["name"] for each in rows(NAMES, but="first")} == {"50 %", "100 %"}
            execute_along(INSERT, name="last")
        with transaction():
            execute_along(INSERT, name="alone")
        sent = [[each.split()[0] for each in query.sql.split("; ")] for query in traffic.taken()]
        assert sent == [["BEGIN", "EXECUTE", "SELECT"], ["EXECUTE", "COMMIT"], ["BEGIN", "EXECUTE", "COMMIT"]]
        assert len(rows_outside("SELECT name FROM brands")) == 5
        close_pool()


def test_what_is_sent_along_and_fails_fails_the_transaction(database_url: str) -> None:
    def insert(*names: str | None, then: Callable[[], object]) -> None:
        with transaction():
            for name in names:
                execute_along(INSERT, name=name)
            then()

    with counted(database_url) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        with pytest.raises(IntegrityError):
            insert("one", None, then=lambda: rows("SELECT 1"))
        with pytest.raises(IntegrityError):
            insert("one", None, then=lambda: None)
        with pytest.raises(KeyError):
            insert("one", then=lambda: {"a": "b"}["nothing"])
        assert [query.sql for query in traffic.taken()].count("ROLLBACK") == 2
        assert rows_outside("SELECT name FROM brands") == []
        close_pool()


def rows_outside(sql: str) -> list[dict[str, Any]]:
    """Return the rows of a statement outside of a transaction."""
    with autocommit():
        return rows(sql)
