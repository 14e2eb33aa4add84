"""Locks of other sessions that hold the program up are named, with the session and the statement that ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.ops.faults import reopen_pool
from tests.ops.readiness import Clock, check, checker, reason
from tests.support.fleet import beat, change
from tests.support.locks import HOLDER, MODES, holding, lock_of, waiting
from tests.support.runs import create, read
from tests.support.waiting import eventually
from vm_webapp.db.migrate.session import ADVISORY_LOCK
from vm_webapp.db.pool import transaction
from vm_webapp.ops.health import Health, HealthChecker
from vm_webapp.ops.locks import Lock
from vm_webapp.ops.locks.found import OLD_SECONDS, find_locks
from vm_webapp.ops.locks.uses import USES
from vm_webapp.ops.locks.watch import RECOVERY_SECONDS, ROW_SECONDS, name_locks

pytestmark = pytest.mark.usefixtures("database")

STRONG = MODES[4:]
# What tests wait for until a lock is old, unless they are about its age.
SOON_OLD_SECONDS = 0.2


def locks(old_seconds: float) -> list[Lock]:
    """Return the locks that are found now."""
    with transaction():
        return find_locks(old_seconds=old_seconds)


def found(number: int = 1, *, old_seconds: float = SOON_OLD_SECONDS) -> list[Lock]:
    """Return the locks once so many are old enough to be found."""
    return eventually(lambda: seen if len(seen := locks(old_seconds)) >= number else None, f"{number} locks", every=0.1)


def test_every_table_has_its_use() -> None:
    tables = read("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
    assert {table["relname"] for table in tables} == set(USES)


def test_a_lock_that_conflicts_with_nothing_is_not_named(database_url: str) -> None:
    with ExitStack() as held:
        for mode in MODES[:4]:
            weak = (lock_of(table, mode) for table in USES if table != "artifacts")
            held.enter_context(holding(database_url, *weak))
        pid = held.enter_context(holding(database_url, lock_of("artifacts", "SHARE")))
        # As the last of them is found, the others are old enough, too.
        assert [lock.holder.pid for lock in found(old_seconds=OLD_SECONDS)] == [pid]


def test_each_mode_that_conflicts_is_named_and_stops_work_where_every_step_needs_the_table(database_url: str) -> None:
    with ExitStack() as held:
        # On tables of their own, because these modes conflict with each other.
        for table, mode in zip(("runs", "stages", "projects", "queues"), STRONG, strict=True):
            held.enter_context(holding(database_url, lock_of(table, mode)))
        seen = {lock.table: lock for lock in found(4)}
    assert {table: lock.mode for table, lock in seen.items()} == dict(
        zip(("runs", "stages", "projects", "queues"), STRONG, strict=True)
    )
    assert [seen[table].stops_work for table in ("runs", "stages", "projects", "queues")] == [True, True, False, True]
    assert seen["runs"].what == "a lock on the table runs"
    assert seen["projects"].hindered == "requests about projects, and new runs with one"


@pytest.mark.parametrize(
    ("ddl", "table", "mode"),
    [
        ("ALTER TABLE runs ADD COLUMN more text", "runs", "ACCESS EXCLUSIVE"),
        ("CREATE INDEX more ON stages (title)", "stages", "SHARE"),
        ("CREATE TABLE more (run_id uuid REFERENCES runs)", "runs", "SHARE ROW EXCLUSIVE"),
        ("REINDEX INDEX events_of_run", "events", "ACCESS EXCLUSIVE"),
        ("ALTER SEQUENCE events_id_seq INCREMENT 1", "events", "SHARE ROW EXCLUSIVE"),
        ("TRUNCATE idempotency_keys", "idempotency_keys", "ACCESS EXCLUSIVE"),
        ("DROP TABLE providers CASCADE", "providers", "ACCESS EXCLUSIVE"),
    ],
)
def test_ddl_in_a_transaction_that_was_left_open_is_named(database_url: str, ddl: str, table: str, mode: str) -> None:
    with holding(database_url, ddl) as pid:
        (lock,) = found()
    assert (lock.table, lock.mode, lock.holder.pid) == (table, mode, pid)
    assert lock.holder.state == "idle in transaction"
    assert lock.holder.application == HOLDER


def test_a_lock_that_is_asked_for_holds_up_whoever_comes_later(database_url: str) -> None:
    with (
        holding(database_url, "SELECT count(*) FROM runs", application="pg_dump") as dump,
        waiting(database_url, "ALTER TABLE runs ADD COLUMN more text", application=HOLDER) as pid,
    ):
        (lock,) = found()
    assert (lock.table, lock.holder.pid, lock.holder.waits_for) == ("runs", pid, dump)
    assert f"which itself waits for pid {dump}" in lock.holder.description


@pytest.mark.parametrize(
    ("held", "waits", "application", "what", "workers"),
    [
        (
            "SELECT FROM providers FOR UPDATE",
            "UPDATE providers SET pauses = 1",
            "vm-webapp worker 1.0",
            "a lock on a row of the table providers",
            True,
        ),
        (
            "INSERT INTO providers (name) VALUES ('new')",
            "INSERT INTO providers (name) VALUES ('new')",
            "vm-webapp worker 1.0",
            "a lock on a row of the table providers",
            True,
        ),
        (
            "UPDATE worker_heartbeats SET pid = 1",
            "UPDATE worker_heartbeats SET pid = 2",
            "vm-webapp pulse 1.0",
            "a lock on a row of the table worker_heartbeats",
            True,
        ),
        (
            "SELECT FROM queues FOR UPDATE",
            "UPDATE queues SET reason = 'x'",
            "vm-webapp api 1.0",
            "a lock on a row of the table queues",
            False,
        ),
        (
            "SELECT pg_advisory_lock(7)",
            "SELECT pg_advisory_lock(7)",
            "vm-webapp worker 1.0",
            "an advisory lock",
            True,
        ),
    ],
)
def test_a_lock_that_one_of_our_sessions_waits_for_is_named(
    database_url: str, held: str, waits: str, application: str, what: str, workers: bool
) -> None:
    beat()
    change("INSERT INTO providers (name) VALUES ('kimi')")
    with (
        holding(database_url, held) as pid,
        waiting(database_url, waits, application=application),
        # A second one stands behind the first in the line, and is held up by the same session.
        waiting(database_url, waits, application=application),
    ):
        (lock,) = found()
    assert (lock.what, lock.holder.pid, lock.holds_up_workers) == (what, pid, workers)
    assert not lock.stops_work


def test_a_lock_that_a_stranger_waits_for_is_none_of_ours(database_url: str) -> None:
    change("INSERT INTO providers (name) VALUES ('kimi')")
    update = "UPDATE providers SET pauses = 1"
    with (
        holding(database_url, update),
        waiting(database_url, update, application="another program"),
        holding(database_url, lock_of("runs", "SHARE")),
    ):
        (lock,) = found()
    assert lock.table == "runs"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"SELECT pg_advisory_lock({ADVISORY_LOCK})", "the lock of migrations"),
        ("SELECT pg_advisory_xact_lock(12345678901)", "an advisory lock in a transaction that was left open"),
    ],
)
def test_an_advisory_lock_is_named(database_url: str, statement: str, what: str) -> None:
    with holding(database_url, statement):
        (lock,) = found()
    assert (lock.what, lock.stops_work) == (what, False)


def health_once_locked(own: HealthChecker, what: str) -> Health:
    """Return the first verdict that names a lock."""

    def names_it() -> Health | None:
        health = own.check()
        return health if what in str(health.body(private=False)) else None

    return eventually(names_it, what, every=0.1)


def test_a_lock_that_stops_work_is_the_one_reason_and_its_session_is_for_callers_with_credentials(
    database_url: str,
) -> None:
    beat()
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '1 min'")
    own = checker(Clock())
    with holding(database_url, lock_of("runs", "ACCESS EXCLUSIVE")) as pid:
        health = health_once_locked(own, "a lock on the table runs")
    why = "a lock on the table runs holds work up: python -m vm_webapp doctor names the session that holds it"
    assert reason(health).startswith(why)
    assert health.dependencies["database"]["status"] == "busy"
    public = str(health.body(private=False))
    assert (str(pid) in public, HOLDER in public) == (False, False)
    (seen,) = health.body(private=True)["dependencies"]["database"]["locks"]
    assert (seen["lock"], seen["mode"], seen["pid"]) == ("a lock on the table runs", "ACCESS EXCLUSIVE", pid)
    assert (seen["user"], seen["application"]) == ("postgres", HOLDER)
    assert seen["end"] == f"SELECT pg_terminate_backend({pid})"
    assert seen["since"]


def test_a_lock_that_hinders_something_else_leaves_the_api_ready(database_url: str) -> None:
    beat()
    with holding(database_url, lock_of("projects", "ACCESS EXCLUSIVE")):
        health = health_once_locked(checker(Clock()), "a lock on the table projects")
    assert health.ready
    assert health.dependencies["database"]["status"] == "degraded"
    note = "a lock on the table projects holds up requests about projects, and new runs with one: python"
    assert note in health.dependencies["database"]["note"]


def test_no_table_that_is_locked_is_waited_for(database_url: str) -> None:
    beat()
    with holding(database_url, *(lock_of(table, "ACCESS EXCLUSIVE") for table in USES)):
        found(len(USES), old_seconds=OLD_SECONDS)
        began = time.monotonic()
        assert not check().ready
    assert time.monotonic() - began < 1


def test_a_check_that_waits_for_a_young_lock_is_right_at_once(database_url: str) -> None:
    beat()
    own = checker(Clock())
    with holding(database_url, lock_of("_yoyo_migration", "ACCESS EXCLUSIVE")):
        health = own.check()
    # Not even for one check: workers go on while only the checks of the schema wait.
    assert health.ready
    assert "a lock on the table _yoyo_migration holds up migrations" in health.dependencies["database"]["note"]
    assert health.dependencies["worker"]["status"] == "ok"


def test_workers_that_a_lock_has_silenced_are_not_blamed_and_get_a_moment_afterwards(database_url: str) -> None:
    beat()
    clock = Clock()
    own = checker(clock)
    with holding(database_url, lock_of("stages", "SHARE")):
        health_once_locked(own, "a lock on the table stages")
        change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '30 s'")
        health = own.check()
        assert "a lock on the table stages holds work up" in reason(health)
        assert health.dependencies["worker"]["status"] == "unknown"
    after = reason(own.check())
    assert after == "a lock on the table stages held workers up until a moment ago: wait a few seconds"
    clock.now += RECOVERY_SECONDS + 0.1
    assert "no worker has sent a heartbeat" in reason(own.check())


def test_a_dead_worker_is_not_excused_by_a_lock_that_workers_do_not_need(database_url: str) -> None:
    beat()
    change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '30 s'")
    with holding(database_url, lock_of("projects", "ACCESS EXCLUSIVE")):
        health = health_once_locked(checker(Clock()), "a lock on the table projects")
    assert "no worker has sent a heartbeat" in reason(health)


def test_a_row_lock_that_silences_a_worker_is_the_reason_once_the_worker_is_silent(database_url: str) -> None:
    beat()
    update = "UPDATE worker_heartbeats SET pid = 1"
    for silent in (False, True):
        if silent:
            change("UPDATE worker_heartbeats SET last_tick_at = now() - interval '30 s'")
        with holding(database_url, update) as pid, waiting(database_url, update, application="vm-webapp pulse 1.0"):
            health = health_once_locked(checker(Clock()), "a lock on a row of the table worker_heartbeats")
        assert health.ready is not silent
        assert f"SELECT pg_terminate_backend({pid})" in str(health.body(private=True))
    assert reason(health).startswith("a lock on a row of the table worker_heartbeats holds work up: python")


def test_a_row_lock_is_remembered_between_two_tries_and_forgotten_with_its_transaction(database_url: str) -> None:
    beat()
    change("INSERT INTO providers (name) VALUES ('kimi')")
    update = "UPDATE providers SET pauses = 1"
    clock = Clock()
    own = checker(clock)
    with holding(database_url, update):
        with waiting(database_url, update, application="vm-webapp worker 1.0"):
            health_once_locked(own, "a row of the table providers")
        assert own.check().locks, "nobody waits just now"
        clock.now += ROW_SECONDS + 1
        assert not own.check().locks
        with waiting(database_url, update, application="vm-webapp worker 1.0"):
            health_once_locked(own, "a row of the table providers")
    assert not own.check().locks


def test_what_the_role_may_neither_see_nor_end_is_said_with_the_grants(
    database_url: str, unprivileged_url: str
) -> None:
    reopen_pool(unprivileged_url)
    change_as_owner = "ALTER TABLE runs ADD COLUMN more text"
    with holding(database_url, change_as_owner) as pid:
        (lock,) = found()
        assert lock.holder.superuser
        assert lock.holder.todo == f"only a superuser may end it: SELECT pg_terminate_backend({pid})"
        assert lock.holder.needs == ("GRANT pg_read_all_stats TO unprivileged",)
        assert "since a time that this role may not see" in lock.holder.description
        assert lock.holder.application == HOLDER


@pytest.fixture
def colleague_url(database: str, unprivileged_url: str) -> Iterator[str]:
    """The database's URL for another ordinary role, which owns the table that it changes."""
    change("CREATE ROLE colleague LOGIN")
    change("GRANT ALL ON runs TO colleague")
    yield database.replace("postgres@", "colleague@")
    reopen_pool(database)
    change("DROP OWNED BY colleague")
    change("DROP ROLE colleague")


@pytest.mark.parametrize(
    ("grants", "needs"),
    [
        ((), ("GRANT pg_read_all_stats TO unprivileged", "GRANT pg_signal_backend TO unprivileged")),
        (("pg_read_all_stats",), ("GRANT pg_signal_backend TO unprivileged",)),
        (("pg_monitor",), ("GRANT pg_signal_backend TO unprivileged",)),
        (("pg_signal_backend",), ("GRANT pg_read_all_stats TO unprivileged",)),
        (("pg_monitor", "pg_signal_backend"), ()),
    ],
)
def test_each_missing_grant_is_named(
    unprivileged_url: str, colleague_url: str, grants: tuple[str, ...], needs: tuple[str, ...]
) -> None:
    for grant in grants:
        change(f"GRANT {grant} TO unprivileged")
    reopen_pool(unprivileged_url)
    with holding(colleague_url, lock_of("runs", "SHARE ROW EXCLUSIVE")) as pid:
        (lock,) = found()
        assert (lock.holder.user, lock.holder.needs) == ("colleague", needs)
        assert f"SELECT pg_terminate_backend({pid})" in lock.holder.todo
        assert lock.holder.may_end is ("pg_signal_backend" in grants)
        assert (lock.holder.since is None) is not bool({"pg_monitor", "pg_read_all_stats"} & set(grants))


def test_many_locks_are_named_by_the_first_three() -> None:
    class Named:
        def __init__(self, what: str) -> None:
            self.what = what

    def said(*names: str) -> str:
        return name_locks([Named(name) for name in names])  # type: ignore[misc]

    assert said("a") == "a holds"
    assert said("a", "a", "b") == "a and b hold"
    assert said("a", "b", "c") == "a, b and c hold"
    assert said("a", "b", "c", "d", "e") == "a, b, c and 2 more hold"


def test_the_row_of_a_run_is_named_when_its_stage_is_not_claimed(database_url: str) -> None:
    run = create("smoke").run
    lock_row = f"SELECT FROM runs WHERE id = '{run.id}' FOR UPDATE"
    with holding(database_url, lock_row), waiting(database_url, lock_row, application="vm-webapp worker 1.0"):
        (lock,) = found()
    assert lock.what == "a lock on a row of the table runs"
