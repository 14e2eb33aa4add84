"""Statements with CONCURRENTLY: they wait for other transactions, and what a failed one leaves is named and removed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from tests.db.schemas import FURTHER, applied, further, later_build, run_sql
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.migrate.yoyo_runner import blocks_nobody
from vm_webapp.errors import VMError

CREATE = "CREATE INDEX CONCURRENTLY runs_mood ON runs (status);"
DROP = "DROP INDEX CONCURRENTLY IF EXISTS runs_mood;"
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
TWO_NOTES = "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('same'), ('same')"
UNIQUE = "CREATE UNIQUE INDEX CONCURRENTLY notes_text ON notes (text);"


def alone(up: str, down: str = "SELECT 1;") -> MigrationFiles:
    """Return a migration that runs outside a transaction."""
    return further(FURTHER, "transactional: false", up=up, down=down)


def apply(url: str, files: MigrationFiles, said: list[str] | None = None) -> tuple[str, ...]:
    """Apply a migration that a later build contains."""
    say = (said if said is not None else []).append
    return migrate.apply_pending(url, bundle=later_build(files), patience=migrate.Patience(say=say))


@contextmanager
def snapshot(url: str, table: str = "runs") -> Iterator[Any]:
    """Hold a transaction that has read a table."""
    with closing(psycopg2.connect(url, application_name="a long report")) as session, session.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {table}")
        yield session


@contextmanager
def in_background(url: str, files: MigrationFiles, said: list[str]) -> Iterator[Future[tuple[str, ...]]]:
    """Apply a migration while the block runs."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(apply, url, files, said)


@pytest.mark.parametrize(
    ("before", "up"),
    [
        ("SELECT 1", CREATE),
        ("CREATE INDEX runs_mood ON runs (status)", "-- Not needed.\nDROP INDEX CONCURRENTLY runs_mood;"),
        ("CREATE INDEX runs_mood ON runs (status)", "SET work_mem = '8MB';\nREINDEX INDEX CONCURRENTLY runs_mood;"),
    ],
    ids=["CREATE", "DROP", "REINDEX"],
)
def test_it_waits_for_a_transaction_and_makes_no_writer_wait(database_url: str, before: str, up: str) -> None:
    run_sql(database_url, before)
    said: list[str] = []
    with snapshot(database_url) as reader, in_background(database_url, alone(up), said) as applying:
        eventually(lambda: said, "a line that says for whom it waits")
        run_sql(database_url, "SET lock_timeout = '500ms'; UPDATE runs SET status = status; SELECT count(*) FROM runs")
        assert not applying.done()
        reader.rollback()
        assert applying.result(30) == (FURTHER,)
    assert "waits for pid" in said[0]
    assert "application a long report" in said[0]
    assert run_sql(database_url, INVALID) == []


def test_an_index_that_failed_is_named_with_its_command_and_the_next_up_builds_it(database_url: str) -> None:
    run_sql(database_url, TWO_NOTES)
    for _ in range(2):
        with pytest.raises(migrate.MigrationFailed) as failed:
            apply(database_url, alone(UNIQUE))
        assert "could not create unique index" in str(failed.value)
        assert "DROP INDEX CONCURRENTLY public.notes_text" in str(failed.value)
        assert "nothing of it was done" not in str(failed.value)
        assert run_sql(database_url, INVALID) == [("notes_text",)]
    run_sql(database_url, "DELETE FROM notes WHERE ctid = '(0,1)'")
    assert apply(database_url, alone(UNIQUE)) == (FURTHER,)
    assert run_sql(database_url, INVALID) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS notes_text ON notes (text);",
        "CREATE UNIQUE INDEX CONCURRENTLY ON notes (text);",
    ],
    ids=["if not exists", "without a name"],
)
def test_an_invalid_index_is_never_taken_for_the_one_that_is_wanted(database_url: str, statement: str) -> None:
    run_sql(database_url, TWO_NOTES)
    with pytest.raises(migrate.MigrationFailed):
        apply(database_url, alone(statement))
    run_sql(database_url, "DELETE FROM notes WHERE ctid = '(0,1)'")
    assert apply(database_url, alone(statement)) == (FURTHER,)
    assert run_sql(
        database_url, "SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid = 'notes'::regclass"
    ) == [(1, True)]


def test_what_a_canceled_reindex_left_is_removed_by_the_next_up(database_url: str) -> None:
    run_sql(database_url, "CREATE INDEX runs_mood ON runs (status)")
    reindex = alone("REINDEX INDEX CONCURRENTLY runs_mood;")
    said: list[str] = []
    with snapshot(database_url), in_background(database_url, reindex, said) as applying:
        eventually(lambda: said, "a line that says for whom it waits")
        run_sql(database_url, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^REINDEX'")
        with pytest.raises(VMError, match=r"DROP INDEX CONCURRENTLY public\.runs_mood_ccnew"):
            applying.result(30)
    assert run_sql(database_url, INVALID) == [("runs_mood_ccnew",)]
    assert apply(database_url, reindex) == (FURTHER,)
    assert run_sql(database_url, INVALID) == []


def test_a_foreign_invalid_index_stays(database_url: str) -> None:
    run_sql(database_url, TWO_NOTES)
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        session.autocommit = True
        with pytest.raises(psycopg2.Error):
            cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY somebodys ON notes (text)")
    assert apply(database_url, alone(CREATE, DROP)) == (FURTHER,)
    assert run_sql(database_url, INVALID) == [("somebodys",)]


def test_a_rollback_waits_too(database_url: str) -> None:
    apply(database_url, alone(CREATE, "DROP INDEX CONCURRENTLY runs_mood;"))
    plan, said = migrate.plan_down(database_url, steps=1), list[str]()
    with snapshot(database_url) as reader, ThreadPoolExecutor(1) as pool:
        going = pool.submit(migrate.roll_back, database_url, plan, alive=None, say=said.append)
        eventually(lambda: said, "a line that says for whom it waits")
        assert not going.done()
        reader.rollback()
        going.result(30)
    assert run_sql(database_url, "SELECT to_regclass('runs_mood') IS NULL") == [(True,)]


@pytest.mark.parametrize("down", ["DROP TABLE other;", ""], ids=["that can be undone", "that cannot"])
def test_statements_before_the_failure_are_undone_or_named(database_url: str, down: str) -> None:
    run_sql(database_url, TWO_NOTES)
    stays = not down
    # yoyo pairs the first statement with the last of the rollback.
    files = alone(f"CREATE TABLE other (id int);\nSET work_mem = '8MB';\n{UNIQUE}", down)
    with pytest.raises(migrate.MigrationFailed) as failed:
        apply(database_url, files)
    assert ('"CREATE TABLE other (id int);" was done and stays' in str(failed.value)) is stays
    assert "SET work_mem" not in str(failed.value)
    assert run_sql(database_url, "SELECT to_regclass('other') IS NOT NULL") == [(stays,)]
    assert "nothing of it was done" not in str(failed.value)
    assert applied(database_url)[-1] != FURTHER


def test_a_lock_time_out_after_a_statement_that_stays_does_not_say_that_nothing_was_done(database_url: str) -> None:
    files = alone("CREATE TABLE other (id int);\nALTER TABLE runs ADD COLUMN mood text;", "")
    with snapshot(database_url), pytest.raises(VMError) as failed:
        apply(database_url, files)
    assert "a table was in use" in str(failed.value)
    assert '"CREATE TABLE other (id int);" was done and stays' in str(failed.value)
    assert "nothing of it" not in str(failed.value)


def test_a_mark_that_cannot_be_written_is_reported_with_the_command_that_writes_it(database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE _yoyo_log IN SHARE MODE")
        with pytest.raises(VMError, match=f"yoyo mark --revision {FURTHER}") as failed:
            apply(database_url, alone(CREATE, DROP))
    assert "nothing of it" not in str(failed.value)
    assert run_sql(database_url, "SELECT to_regclass('runs_mood') IS NOT NULL") == [(True,)]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("create unique index concurrently if not exists x on y (z);", True),
        ("/* why */ -- and how\n DROP INDEX  CONCURRENTLY x;", True),
        ("REINDEX (VERBOSE) TABLE CONCURRENTLY x;", True),
        ("REINDEX (CONCURRENTLY, VERBOSE) INDEX x;", True),
        ("REINDEX TABLE x;", False),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY x;", True),
        ("ALTER TABLE x DETACH PARTITION y CONCURRENTLY;", True),
        ("VACUUM ANALYZE x;", True),
        ("VACUUM (FULL) x;", False),
        ("VACUUM FULL x;", False),
        ("CREATE INDEX x ON y (z);", False),
        ("ALTER TABLE concurrently ADD COLUMN x int;", False),
        ("COMMENT ON TABLE x IS 'CREATE INDEX CONCURRENTLY';", False),
        ("UPDATE x SET y = 'CREATE INDEX CONCURRENTLY';", False),
    ],
)
def test_only_what_blocks_nobody_waits_without_a_limit(statement: str, expected: bool) -> None:
    assert blocks_nobody(statement) is expected
