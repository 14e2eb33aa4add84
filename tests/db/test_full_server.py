"""A server that is full: pools wait for a connection of their own, and leave the last ones to operators."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from tests.support.databases import Databases, url_of
from tests.support.pgbouncer import pgbouncer
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.connections import FREE
from vm_webapp.db.pool import autocommit, close_pool, database, execute, open_pool, transaction
from vm_webapp.errors import DatabaseFull
from vm_webapp.local import LocalServers

ROLE = "limited"


@pytest.fixture
def empty_url(servers: LocalServers, databases: Databases) -> Iterator[str]:
    """A database without tables, on a server without other sessions; the pool is closed at the end."""
    databases.close_kept()
    yield url_of(servers, "postgres")
    close_pool()


@pytest.fixture
def one_connection(empty_url: str) -> Iterator[str]:
    """The database's URL for a role that may have one connection."""
    with closing(psycopg2.connect(empty_url)) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute(f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT 1")
        yield empty_url.replace("postgres@", f"{ROLE}@")
        close_pool()
        cursor.execute(f"DROP ROLE {ROLE}")


def use(_: int = 0) -> bool:
    with transaction():
        return execute("SELECT pg_sleep(0.05)") == 1


def free_connections(url: str) -> int:
    """Wait until no earlier test has a session any more; return how many connections are free beside this one."""
    with closing(psycopg2.connect(url)) as session, session.cursor() as cursor:

        def is_alone() -> bool:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            ((count,),) = cursor.fetchall()
            session.rollback()
            return bool(count == 1)

        eventually(is_alone, "no other session")
        cursor.execute(FREE)
        ((free,),) = cursor.fetchall()
        return int(free)


def test_a_pool_that_is_refused_a_further_connection_waits_for_its_own(
    one_connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    open_pool(one_connection, max_connections=4, application_name="tests", leave_free=1)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(16)))
    assert [each.message for each in caplog.records] == ["database.full"]


def test_a_pool_without_a_connection_is_told_at_once_that_the_server_is_full(one_connection: str) -> None:
    with closing(psycopg2.connect(one_connection)):
        open_pool(one_connection, max_connections=4, application_name="tests")
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(DatabaseFull, match="scale the services down"), transaction():
                pass
        assert time.monotonic() - began < 2
        with pytest.raises(DatabaseFull, match="too many connections"):
            migrate.read_status(one_connection)
    eventually(use_if_possible, "the pool works again")


def use_if_possible() -> bool:
    try:
        return use()
    except DatabaseFull:
        return False


def test_a_pool_leaves_the_last_connections_to_others(empty_url: str) -> None:
    # The session that counts is gone when the pool connects: its connection and one more leave as many free.
    free = free_connections(empty_url)
    open_pool(empty_url, max_connections=4, application_name="tests", leave_free=free - 1)
    assert use()  # threads that open the first ones at the same moment count one another's
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(16)))
    assert sessions(empty_url) <= 2
    close_pool()
    free_connections(empty_url)
    open_pool(empty_url, max_connections=4, application_name="tests", leave_free=free + 1)
    with pytest.raises(DatabaseFull), transaction():
        pass
    eventually(lambda: sessions(empty_url) == 0, "the connection is given back")
    open_pool(empty_url, max_connections=4, application_name="tests")
    assert use(), "an operator's command gets in"


def sessions(url: str) -> int:
    with closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tests'")
        ((count,),) = cursor.fetchall()
        return int(count)


def test_a_thread_that_was_refused_a_connection_waits_for_one_and_gives_its_turn_back(empty_url: str) -> None:
    open_pool(empty_url, max_connections=2, application_name="tests")
    refused, let_go = threading.Event(), threading.Event()

    def hold_one() -> None:
        with transaction():
            database.leave_free(10_000)
            refused.set()
            assert let_go.wait(10)

    with ThreadPoolExecutor(3) as threads:
        holding = threads.submit(hold_one)
        assert refused.wait(10)
        waiting = threads.submit(use)
        eventually(lambda: database.full, "the second connection is refused")
        let_go.set()
        holding.result(10)
        assert waiting.result(10)
        database.leave_free(0)
        together = threading.Barrier(2)

        def meet(_: int) -> bool:
            with transaction():
                together.wait(3)
            return True

        assert all(threads.map(meet, range(2)))


def test_a_pool_without_a_connection_that_may_open_none_is_told_so_after_one_try(
    empty_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    open_pool(empty_url, max_connections=2, application_name="tests", leave_free=10_000)
    for connect in (transaction, autocommit):
        began = time.monotonic()
        with pytest.raises(DatabaseFull), connect():
            execute("SELECT 1")
        assert time.monotonic() - began < 2


def test_a_pooler_without_a_place_is_full(empty_url: str) -> None:
    with pgbouncer(empty_url, max_client_conn=1) as bouncer:
        open_pool(bouncer.url("postgres"), max_connections=4, application_name="tests")
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(use, range(8)))
        with pytest.raises(DatabaseFull, match="no more connections allowed"):
            migrate.read_status(bouncer.url("postgres"))
