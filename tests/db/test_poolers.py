"""PostgreSQL through a real PgBouncer: what is in force, what leaks to other clients, and how it is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import psycopg2
import pytest
from peewee import Select, Value

from tests.support.databases import url_of
from tests.support.pgbouncer import PgBouncer, pgbouncer
from vm_webapp.db.compiled import param
from vm_webapp.db.pool import (
    autocommit,
    close_pool,
    database,
    dedicated_connection,
    execute,
    open_pool,
    row,
    transaction,
)
from vm_webapp.db.poolers import open_session
from vm_webapp.db.prepared import Prepared, prepared
from vm_webapp.db.session_settings import SessionSettings
from vm_webapp.db.sessions import name_session, read_builds
from vm_webapp.errors import DatabaseBusy, PoolerInTransactionMode
from vm_webapp.local import LocalServers

# What PgBouncer itself keeps for each of its clients.
KEPT = ("application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings")
LEFT_BEHIND = f"SELECT name FROM pg_settings WHERE source = 'session' AND name NOT IN {KEPT}"
POOLERS = {
    "refuses options": {},
    "swallows options": {"ignore_startup_parameters": "options"},
    "takes sessions in turn": {"server_round_robin": 1},
    "has one session": {"default_pool_size": 1},
}
HUNDRED = Value("100 %")
MORE = HUNDRED.concat(param("value"))
MIGRATION = SessionSettings({"lock_timeout": "1s", "statement_timeout": "15min"})


@pytest.fixture(scope="module")
def empty_url(servers: LocalServers) -> str:
    """A database without tables."""
    return url_of(servers, "postgres")


@contextmanager
def pool_through(bouncer: PgBouncer, *, options: str = "", connections: int = 4) -> Iterator[None]:
    """Open this process's pool through a pooler."""
    open_pool(bouncer.url("postgres") + options, max_connections=connections, application_name="tests")
    try:
        yield
    finally:
        close_pool()


def settings_now() -> dict[str, object]:
    found = row(
        "SELECT current_setting('statement_timeout') AS statement_timeout, current_setting('lock_timeout') AS"
        " lock_timeout, current_setting('idle_in_transaction_session_timeout') AS idle, current_setting('TimeZone') AS"
        " zone, current_setting('application_name') AS name, current_setting('search_path') AS path,"
        " current_setting('synchronous_commit') AS durable"
    )
    assert found is not None
    return found


OURS = {"statement_timeout": "10s", "lock_timeout": "5s", "idle": "5s", "zone": "UTC", "name": "tests"}


@pytest.mark.parametrize("settings", POOLERS.values(), ids=POOLERS.keys())
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_each_transaction_has_its_settings_and_leaves_none_behind(
    empty_url: str, settings: dict[str, object], mode: str
) -> None:
    with pgbouncer(empty_url, **settings | {"pool_mode": mode}) as bouncer:
        with pool_through(bouncer, connections=1 if "default_pool_size" in settings else 4):
            for durable in (True, False, True):
                with transaction(durable=durable):
                    found = settings_now()
                    assert {key: found[key] for key in OURS} == OURS
                    if not durable:
                        assert found["durable"] == "off"
        with closing(psycopg2.connect(bouncer.url("postgres"))) as stranger, stranger.cursor() as cursor:
            cursor.execute(LEFT_BEHIND)
            assert cursor.fetchall() == []


def test_a_transaction_takes_as_many_messages_as_without_a_pooler(empty_url: str) -> None:
    with pgbouncer(empty_url) as bouncer, pool_through(bouncer, connections=1):
        with transaction():  # finds the pooler
            pass
        before = messages(bouncer)
        with transaction(durable=False):
            execute("SELECT 1")
        assert messages(bouncer) - before == 3, "BEGIN with the settings, the statement, COMMIT"
        before = messages(bouncer)
        with database.connection_context():
            database.execute_sql("SELECT 1")
        assert messages(bouncer) - before == 1, "the settings with the statement"


@pytest.mark.parametrize("within", [transaction, autocommit])
@pytest.mark.parametrize(
    ("statement", "values", "found"),
    [
        (Prepared("SELECT 7 %% 4 AS found"), {}, 3),
        (Prepared("SELECT %(value)s::int %% 4 AS found"), {"value": 7}, 3),
        (prepared(Select(columns=[HUNDRED.alias("found")]).bind(database)), {}, "100 %"),
        (prepared(Select(columns=[MORE.alias("found")]).bind(database)), {"value": "s"}, "100 %s"),
    ],
)
def test_what_cannot_be_prepared_there_is_executed(
    empty_url: str,
    within: Callable[[], AbstractContextManager[None]],
    statement: Prepared,
    values: dict[str, Any],
    found: object,
) -> None:
    with pgbouncer(empty_url) as bouncer, pool_through(bouncer, connections=1), within():
        assert row(statement, **values) == {"found": found}


def messages(bouncer: PgBouncer) -> int:
    """Return how many query messages of the clients it has counted."""
    totals = [total for total in bouncer.admin("SHOW STATS_TOTALS") if total["database"] == "postgres"]
    return sum(int(str(total["query_count"])) for total in totals)


def test_time_outs_hold_in_and_out_of_transactions(empty_url: str) -> None:
    with pgbouncer(empty_url, default_pool_size=1) as bouncer:
        with (
            dedicated_connection(bouncer.url("postgres"), application_name="pulse", statement_timeout_ms=200),
            pytest.raises(DatabaseBusy, match="statement timeout"),
            transaction(),
        ):
            execute("SELECT pg_sleep(5)")
        open_pool(bouncer.url("postgres"), max_connections=1, application_name="tests")
        with database.connection_context():
            ((timeout, value),) = database.execute_sql(
                "SELECT current_setting('statement_timeout'), %s", ("100%",)
            ).fetchall()
            assert (timeout, value) == ("10s", "100%")
        close_pool()


def test_a_build_is_read_from_a_name_to_which_the_pooler_appends_an_address(empty_url: str) -> None:
    with pgbouncer(empty_url, application_name_add_host=1) as bouncer:
        open_pool(bouncer.url("postgres"), max_connections=1, application_name=name_session("api", "0.1.0+abc"))
        with transaction():
            assert read_builds("api") == ["0.1.0+abc"]
        close_pool()


def test_options_of_the_address_are_brought_along(empty_url: str) -> None:
    given = "?options=-c%20search_path%3Dsecret%2Cpublic%20--statement-timeout%3D0"
    with pgbouncer(empty_url) as bouncer, pool_through(bouncer, options=given), transaction():
        found = settings_now()
        assert (found["path"], found["statement_timeout"]) == ("secret,public", "10s")


@pytest.mark.parametrize("settings", POOLERS.values(), ids=POOLERS.keys())
def test_transaction_mode_is_noticed_each_time(empty_url: str, settings: dict[str, object]) -> None:
    with pgbouncer(empty_url, **settings) as bouncer:
        for _ in range(5):
            assert mode_of(bouncer.url("postgres")) == "transaction"
            with pytest.raises(PoolerInTransactionMode, match="set VM_DB_DIRECT_URL"):
                open_session(bouncer.url("postgres"), MIGRATION)


def test_transaction_mode_is_noticed_under_load(empty_url: str) -> None:
    done = threading.Event()

    def use(url: str) -> None:
        with closing(psycopg2.connect(url)) as client, client.cursor() as cursor:
            client.autocommit = True
            while not done.is_set():
                cursor.execute("SELECT pg_sleep(0.0005)")

    with pgbouncer(empty_url, default_pool_size=4) as bouncer:
        clients = [threading.Thread(target=use, args=[bouncer.url("postgres")]) for _ in range(6)]
        for client in clients:
            client.start()
        try:
            assert [mode_of(bouncer.url("postgres")) for _ in range(20)] == ["transaction"] * 20
        finally:
            done.set()
            for client in clients:
                client.join(30)


def mode_of(url: str) -> str:
    open_pool(url, max_connections=1, application_name="tests")
    try:
        with database.connection_context():
            return database.find_mode()
    finally:
        close_pool()


def test_postgresql_itself_is_no_pooler(empty_url: str) -> None:
    assert mode_of(empty_url) == "direct"
    with closing(open_session(empty_url, MIGRATION)) as session, session.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
        assert cursor.fetchall() == [("1s", "15min")]
        assert session.in_force


@pytest.mark.parametrize(
    ("ignored", "sessions"), [("", 3), ("options", 3), ("", 2)], ids=["refuses options", "swallows options", "two"]
)
def test_a_pooler_in_session_mode_works_and_gets_its_session_back_as_it_was(
    empty_url: str, ignored: str, sessions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vm_webapp.db.poolers.PROBE_SECONDS", 0.3)
    # Without a reset of its own, so that what a client leaves behind reaches the next one.
    with pgbouncer(
        empty_url,
        pool_mode="session",
        ignore_startup_parameters=ignored,
        server_reset_query="",
        default_pool_size=sessions,
    ) as bouncer:
        url = bouncer.url("postgres")
        assert mode_of(url) == "session"
        with closing(open_session(url, MIGRATION)) as session, session.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')")
            ((pid, timeout),) = cursor.fetchall()
            assert timeout == "1s"
        with closing(psycopg2.connect(url)) as next_client, next_client.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')")
            assert cursor.fetchall() == [(pid, "0")]
            cursor.execute(LEFT_BEHIND)
            assert cursor.fetchall() == []


def test_a_session_that_cannot_be_told_from_transaction_mode_is_not_trusted(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vm_webapp.db.poolers.PROBE_SECONDS", 0.3)
    with (
        pgbouncer(empty_url, pool_mode="session", default_pool_size=1) as bouncer,
        pytest.raises(PoolerInTransactionMode),
    ):
        open_session(bouncer.url("postgres"), MIGRATION)
