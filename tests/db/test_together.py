"""Several queries as one statement."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from peewee import DatabaseError

from vm_webapp.db.compiled import compiled, param
from vm_webapp.db.models import Stage
from vm_webapp.db.pool import autocommit, execute, row, transaction
from vm_webapp.db.prepared import prepared
from vm_webapp.db.together import NotRead, read_together
from vm_webapp.errors import DatabaseBusy

NUMBERS = "SELECT n, n::text AS text FROM generate_series(1, %(most)s) n"
COMPILED = compiled(Stage.select(Stage.id).where(Stage.status == param("status"), Stage.key == "100%s"))
PREPARED = prepared(Stage.select(Stage.id).where(Stage.status == "queued"))


def test_each_query_has_its_rows_and_its_values(database: str) -> None:
    with autocommit():
        ask = read_together(
            (NUMBERS, {"most": 2}),
            (NUMBERS, {"most": 1}),
            (COMPILED, {"status": "queued"}),
            (PREPARED, {}),
            lock_timeout="200ms",
        )
    assert ask(NUMBERS, most=2) == [{"n": 1, "text": "1"}, {"n": 2, "text": "2"}]
    assert ask(NUMBERS, most=1) == [{"n": 1, "text": "1"}]
    assert ask(COMPILED, status="queued") == ask(PREPARED) == []
    for statement, values in ((NUMBERS, {"most": 3}), (COMPILED, {"status": "failed"}), ("SELECT 1", {})):
        with pytest.raises(NotRead):
            ask(statement, **values)


def test_an_error_of_one_is_that_of_all(database: str) -> None:
    with pytest.raises(DatabaseError), autocommit():
        read_together((NUMBERS, {"most": 2}), ("SELECT 1 / 0 AS n", {}), lock_timeout="200ms")


def test_it_waits_for_a_lock_no_longer_than_it_is_told(database: str) -> None:
    def read() -> None:
        with autocommit():
            read_together((PREPARED, {}), lock_timeout="50ms")

    with transaction(), ThreadPoolExecutor(1) as elsewhere:
        execute("LOCK TABLE stages IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseBusy):
            elsewhere.submit(read).result()
    with autocommit():
        assert row("SHOW lock_timeout") == {"lock_timeout": "5s"}
