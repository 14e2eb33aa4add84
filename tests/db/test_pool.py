"""The pool: few connections for many threads, and what a thread sees when PostgreSQL goes and comes back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing

import psycopg2
import pytest
from peewee import DatabaseError, ProgrammingError

from tests.support.databases import url_of
from tests.support.processes import frozen
from tests.support.waiting import eventually
from vm_webapp.db import pool
from vm_webapp.db.connections import TRUSTED_SECONDS
from vm_webapp.db.pool import (
    autocommit,
    close_pool,
    database,
    dedicated_connection,
    execute,
    open_pool,
    row,
    rows,
    transaction,
)
from vm_webapp.db.stuck_connections import CHECK_SECONDS, limit_checkouts
from vm_webapp.errors import ConfigurationError, ConnectionsTaken, DatabaseUnavailable
from vm_webapp.local import LocalServers

Connect = Callable[[], AbstractContextManager[None]]
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = %(name)s"


@pytest.fixture(scope="module")
def empty_url(servers: LocalServers) -> str:
    """A database without tables."""
    return url_of(servers, "postgres")


@pytest.fixture
def two(empty_url: str) -> Iterator[str]:
    """This process's pool, with two connections."""
    open_pool(empty_url, max_connections=2, application_name="pool of two")
    yield empty_url
    close_pool()


def backend_pid() -> int:
    found = row("SELECT pg_backend_pid() AS pid")
    assert found is not None
    return int(found["pid"])


def database_name() -> str:
    with autocommit():
        found = row("SELECT current_database() AS name")
    assert found is not None
    return str(found["name"])


def end_sessions_of(url: str, name: str) -> int:
    """End the server's side of every session with this application name; return how many there were."""
    with closing(psycopg2.connect(url)) as session, session, session.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = %s", (name,)
        )
        ((ended,),) = cursor.fetchall()
        return int(ended)


def break_connection(url: str, name: str) -> None:
    """End the connection's session in the middle of a transaction."""
    with transaction():
        execute("SELECT 1")
        assert end_sessions_of(url, name) == 1
        execute("SELECT 1")


def test_many_threads_wait_their_turn_for_few_connections(two: str) -> None:
    def use(_: int) -> tuple[int, int]:
        with transaction():
            return backend_pid(), len(rows(SESSIONS, name="pool of two"))

    with ThreadPoolExecutor(16) as threads:
        seen = list(threads.map(use, range(64)))
    assert len({pid for pid, _ in seen}) <= 2
    assert max(sessions for _, sessions in seen) <= 2


def test_a_thread_that_waits_too_long_gets_an_error(two: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WAIT_FOR_CONNECTION_SECONDS", 0.2)
    open_pool(two, max_connections=1, application_name="pool of one")
    done = threading.Event()
    holding = threading.Event()

    def hold() -> None:
        with transaction():
            holding.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(30)
    try:
        with (
            pytest.raises(ConnectionsTaken, match="look in pg_stat_activity for statements that take long"),
            transaction(),
        ):
            pass
    finally:
        done.set()
        holder.join(30)
    with transaction():
        assert row("SELECT 1 AS one") == {"one": 1}


def test_a_connection_that_breaks_in_a_transaction_is_unavailable_and_replaced(two: str) -> None:
    with transaction():
        before = backend_pid()
    with pytest.raises(DatabaseUnavailable):
        break_connection(two, "pool of two")
    with transaction():
        assert backend_pid() != before


@pytest.mark.parametrize("connect", [transaction, autocommit])
def test_an_error_without_an_sqlstate_is_a_connection_that_broke(two: str, connect: Connect) -> None:
    """While a server stops at once, psycopg2 now and then knows no better class for it than the base of all."""
    with pytest.raises(DatabaseUnavailable), connect():
        raise DatabaseError("server closed the connection unexpectedly")


@pytest.mark.parametrize("connect", [transaction, autocommit])
def test_an_error_of_a_statement_is_no_outage(two: str, connect: Connect) -> None:
    with pytest.raises(ProgrammingError), connect():
        execute("SELECT nothing")


def test_idle_connections_that_broke_are_replaced_unnoticed(two: str) -> None:
    with transaction():
        before = backend_pid()
    assert end_sessions_of(two, "pool of two") == 1
    time.sleep(TRUSTED_SECONDS)
    with transaction():
        assert backend_pid() != before


def test_broken_connections_do_not_use_up_the_pool(two: str) -> None:
    for _ in range(5):
        with pytest.raises(DatabaseUnavailable):
            break_connection(two, "pool of two")
    # With a place lost for each broken connection, these threads would wait for one in vain.
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda _: in_transaction(), range(8)))


def in_transaction() -> bool:
    with transaction():
        return row("SELECT 1 AS one") == {"one": 1}


def test_a_server_that_does_not_exist_is_unavailable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refused
        open_pool(
            f"postgresql://x@127.0.0.1:{reserved.getsockname()[1]}/x", max_connections=1, application_name="tests"
        )
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable) as refused, transaction():
                pass
            assert type(refused.value) is DatabaseUnavailable
            assert str(refused.value).endswith("failed: Connection refused: check VM_DB_URL and that PostgreSQL is up")
            assert "\n" not in str(refused.value)
    close_pool()


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("TimeZone", "UTC"),
        ("application_name", "pool of two"),
        ("transaction_isolation", "read committed"),
    ],
)
def test_a_connection_has_its_settings(setting: str, value: str) -> None:
    with transaction():
        assert list((row(f"SHOW {setting}") or {}).values()) == [value]


def test_options_of_the_url_are_kept_and_cannot_undo_the_pools(empty_url: str) -> None:
    open_pool(
        f"{empty_url}&options=-c%20search_path%3Delsewhere%20-c%20statement_timeout%3D0",
        max_connections=1,
        application_name="x",
    )
    with transaction():
        assert row("SHOW search_path") == {"search_path": "elsewhere"}
        assert row("SHOW statement_timeout") == {"statement_timeout": "10s"}
    close_pool()


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("durable", [True, False])
def test_only_a_transaction_that_may_be_lost_skips_the_wait_for_the_disk(durable: bool) -> None:
    asked = "SELECT source = 'session' AS changed, setting FROM pg_settings WHERE name = 'synchronous_commit'"
    with transaction():
        default = row(asked)
    with transaction(durable=durable):
        during = row(asked)
    with transaction():
        assert row(asked) == default
    assert during == (default if durable else {"changed": True, "setting": "off"})


def test_a_block_that_raises_changes_nothing(two: str) -> None:
    def stop_half_way() -> None:
        with transaction():
            execute("CREATE TABLE half_done ()")
            raise LookupError

    with pytest.raises(LookupError):
        stop_half_way()
    with transaction():
        assert row("SELECT to_regclass('half_done') AS found") == {"found": None}


def test_a_dedicated_connection_is_not_one_of_the_pool(two: str) -> None:
    with dedicated_connection(two, application_name="dedicated", statement_timeout_ms=3_000):
        with transaction():
            dedicated = backend_pid()
            assert row("SHOW statement_timeout") == {"statement_timeout": "3s"}
            assert row("SHOW application_name") == {"application_name": "dedicated"}
        with transaction():
            assert backend_pid() == dedicated
    with transaction():
        assert backend_pid() != dedicated

    def has_ended() -> bool:
        with transaction():
            return rows(SESSIONS, name="dedicated") == []

    eventually(has_ended, "its session ends")  # PostgreSQL notices only a moment later that the client is gone


def test_a_dedicated_connection_works_while_the_pool_is_used_up(two: str) -> None:
    full, done = threading.Barrier(3), threading.Event()

    def hold() -> None:
        with transaction():
            full.wait(30)
            done.wait(30)

    holders = [threading.Thread(target=hold) for _ in range(2)]
    for holder in holders:
        holder.start()
    full.wait(30)
    try:
        with dedicated_connection(two, application_name="dedicated", statement_timeout_ms=3_000):
            assert in_transaction()
    finally:
        done.set()
        for holder in holders:
            holder.join(30)


def test_a_dedicated_connection_that_breaks_is_replaced(two: str) -> None:
    with dedicated_connection(two, application_name="dedicated", statement_timeout_ms=3_000):
        with pytest.raises(DatabaseUnavailable):
            break_connection(two, "dedicated")
        assert in_transaction()


def test_other_threads_do_not_see_a_dedicated_connection(two: str) -> None:
    with (
        dedicated_connection(two, application_name="dedicated", statement_timeout_ms=3_000),
        ThreadPoolExecutor(1) as threads,
    ):

        def name() -> str:
            with transaction():
                return str((row("SHOW application_name") or {})["application_name"])

        assert threads.submit(name).result(30) == "pool of two"
        assert name() == "dedicated"


def test_closing_ends_the_idle_sessions(two: str) -> None:
    with transaction():
        pass
    close_pool()
    # The server's process ends a moment after its connection.
    with closing(psycopg2.connect(two)) as session, session.cursor() as cursor:
        session.autocommit = True

        def all_ended() -> bool:
            cursor.execute(SESSIONS, {"name": "pool of two"})
            return not cursor.fetchall()

        eventually(all_ended, "the sessions end")


def test_an_idle_connection_is_not_used_for_another_database(two: str, servers: LocalServers) -> None:
    assert database_name() == "postgres"
    open_pool(servers.database_url, max_connections=2, application_name="pool of two")
    assert database_name() == "vm_webapp"


def test_a_connection_that_comes_back_late_is_not_used_for_another_database(two: str, servers: LocalServers) -> None:
    taken, opened = threading.Event(), threading.Event()

    def hold() -> None:
        with autocommit():
            taken.set()
            assert opened.wait(5)

    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(hold)
        assert taken.wait(5)
        open_pool(servers.database_url, max_connections=2, application_name="pool of two")
        opened.set()
        holding.result()
    assert database_name() == "vm_webapp"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_schemes_of_a_url_work(empty_url: str, scheme: str) -> None:
    open_pool(f"{scheme}://{empty_url.split('://', 1)[1]}", max_connections=1, application_name="x")
    assert in_transaction()
    close_pool()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cret@host/db?nonsense=1",
        "postgresql://user:s3cret@[host/db",
        "postgresql://user:s3cret@host/db%",
        "s3cret nonsense",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="VM_DB_URL") as refused:
        open_pool(url, max_connections=1, application_name="x")
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


def taken_backend() -> int:
    with transaction():
        return backend_pid()


def test_a_server_process_that_freezes_blocks_only_the_thread_that_waits_for_it(two: str) -> None:
    """That thread gets an error when its time is over, and the connection's place in the pool is free again."""
    limit_checkouts(database, seconds=2.0)
    with frozen([taken_backend()]), ThreadPoolExecutor(2) as threads:
        unlucky = threads.submit(taken_backend)
        eventually(lambda: database.taken, "a thread has taken the frozen connection")
        assert all(threads.submit(in_transaction).result(30) for _ in range(20))
        assert not unlucky.done()
        with pytest.raises(DatabaseUnavailable):
            unlucky.result(30)
        assert len({threads.submit(taken_backend).result(30) for _ in range(4)}) == 1


def test_a_dedicated_connection_that_hangs_is_broken_before_a_lease_ends(two: str) -> None:
    with dedicated_connection(two, application_name="dedicated", statement_timeout_ms=500):
        with frozen([taken_backend()]), pytest.raises(DatabaseUnavailable):
            taken_backend()
        assert in_transaction()


def test_a_connection_that_is_held_for_a_short_time_is_not_broken(two: str) -> None:
    with dedicated_connection(two, application_name="dedicated", statement_timeout_ms=1500), transaction():
        time.sleep(CHECK_SECONDS * 2)
        assert row("SELECT 1 AS one") == {"one": 1}
