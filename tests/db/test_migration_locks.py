"""Migrations on tables in use: no lock that stops readers or writers is held for longer than a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest

from tests.db.schemas import FURTHER, build_up_to, further, later_build, run_sql
from vm_webapp.db import migrate
from vm_webapp.db.bundle import own_bundle
from vm_webapp.fleet.alive import ALIVE

LONGEST_SECONDS = 1.0
POLL_SECONDS = 0.005
BLOCKING = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
ROWS = """
    INSERT INTO runs (id, workflow, status, request, snapshot)
    SELECT md5('run' || n)::uuid, 'smoke', 'queued', 'x', '{{}}' FROM generate_series(1, {rows}) n;
    INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model)
    SELECT md5('stage' || n)::uuid, md5('run' || n)::uuid, 1, 'check', 'Check', 'pending', 0, false, false
      FROM generate_series(1, {rows}) n;
    INSERT INTO events (run_id, type, actor)
    SELECT md5('run' || n)::uuid, 'run.created', 'tests' FROM generate_series(1, {rows}) n;
    ANALYZE
"""


class LockMonitor:
    """Polls the server's locks, and records for how long each was held."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: dict[tuple[int, str, str], tuple[float, float]] = {}
        self._done = threading.Event()
        self._polled = threading.Event()
        # No other session uses a table that the migration itself creates, so its locks stop none.
        self._relations = [oid for (oid,) in run_sql(url, "SELECT oid::int FROM pg_class WHERE relkind IN ('r', 'i')")]

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Poll for as long as the block lasts."""
        thread = threading.Thread(target=self._poll)
        thread.start()
        assert self._polled.wait(10)
        try:
            yield
        finally:
            self._done.set()
            thread.join(10)

    def held(self) -> dict[str, float]:
        """Return the seconds that the longest lock on each table was seen for."""
        longest: dict[str, float] = {}
        for (_, table, _), (first, last) in self._seen.items():
            longest[table] = max(longest.get(table, 0.0), last - first)
        return longest

    def _poll(self) -> None:
        with closing(psycopg2.connect(self._url)) as session, session.cursor() as cursor:
            session.autocommit = True
            while not self._done.wait(POLL_SECONDS):
                now = time.monotonic()
                cursor.execute(
                    """
                    SELECT l.pid, c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                     WHERE l.granted AND l.mode = ANY(%s) AND l.relation = ANY(%s::oid[])
                       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    """,
                    (list(BLOCKING), self._relations),
                )
                for key in cursor.fetchall():
                    first, _ = self._seen.get(key, (now, now))
                    self._seen[key] = (first, now)
                self._polled.set()


@pytest.fixture
def busy(database: str, full: bool) -> str:
    """A database with rows in the tables that grow."""
    run_sql(database, ROWS.format(rows=1_000_000 if full else 2_000))
    return database


@pytest.mark.timeout(1200)
def test_no_migration_locks_a_table_for_longer_than_a_second(busy: str) -> None:
    first, *later = own_bundle().ids
    migrate.roll_back(busy, migrate.plan_down(busy, to=first), alive=ALIVE)
    for id in later:
        monitor = LockMonitor(busy)
        with monitor.polling():
            assert migrate.apply_pending(busy, bundle=build_up_to(id)) == (id,)
        assert {table: held for table, held in monitor.held().items() if held > LONGEST_SECONDS} == {}
    for _ in later:
        monitor = LockMonitor(busy)
        with monitor.polling():
            migrate.roll_back(busy, migrate.plan_down(busy, steps=1), alive=ALIVE)
        assert {table: held for table, held in monitor.held().items() if held > LONGEST_SECONDS} == {}


def test_a_migration_that_locks_for_longer_is_noticed(database: str) -> None:
    slow = further(up="ALTER TABLE runs ADD COLUMN mood text;\nSELECT pg_sleep(1.2);", down="SELECT 1;")
    monitor = LockMonitor(database)
    with monitor.polling():
        assert migrate.apply_pending(database, bundle=later_build(slow)) == (FURTHER,)
    assert monitor.held()["runs"] > LONGEST_SECONDS
