"""Schema changes under live processes: live workers that need the old schema block them, APIs are named."""

from __future__ import annotations

from contextlib import ExitStack, closing
from uuid import uuid4

import psycopg2
import pytest

from tests.db.schemas import FURTHER, NOTES, applied, compatible, dump, further, later_build
from vm_webapp.db import migrate
from vm_webapp.db.bundle import Bundle, MigrationFiles, own_bundle
from vm_webapp.db.pool import execute, transaction
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import Conflict, NotFound
from vm_webapp.fleet.alive import ALIVE, FRESH_SECONDS
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, WorkerState, write_heartbeat

NEWEST = own_bundle().ids[-1]


def down(url: str, *, force: bool = False) -> list[str]:
    """Roll back what this build does not have; return the ids that were rolled back."""
    plan = migrate.plan_down(url, to=NEWEST)
    migrate.roll_back(url, plan, alive=None if force else ALIVE)
    return [files.id for files in plan.steps]


@pytest.mark.parametrize(
    ("state", "age", "newest", "needs"),
    [
        ("working", 0, FURTHER, True),
        ("starting", 0, FURTHER, True),
        ("draining", 0, "0999_later_still", True),
        ("working", 0, NEWEST, False),
        ("working", FRESH_SECONDS + 1, FURTHER, False),
        ("stopped", 0, FURTHER, False),
    ],
)
def test_live_workers_keep_the_schema_they_need(
    database: str, state: WorkerState, age: int, newest: str, needs: bool
) -> None:
    migrate.apply_pending(database, bundle=later_build(compatible()))
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4, newest_migration=newest), Heartbeat(state, 0))
    with transaction():
        execute("UPDATE worker_heartbeats SET last_tick_at = now() - %(age)s * interval '1 s'", age=age)
    if needs:
        with pytest.raises(Conflict, match=f"1 live .* need {FURTHER}: .*--force"):
            down(database)
        assert applied(database)[-1] == FURTHER
    assert down(database, force=needs) == [FURTHER]


@pytest.mark.parametrize(
    ("state", "age", "oldest_build", "hinders"),
    [
        ("working", 0, FURTHER, True),
        ("draining", 0, FURTHER, True),
        ("working", 0, NEWEST, False),
        ("starting", 0, FURTHER, False),
        ("stopped", 0, FURTHER, False),
        ("working", FRESH_SECONDS + 1, FURTHER, False),
    ],
)
def test_live_workers_keep_out_what_they_cannot_run_on(
    database: str, state: WorkerState, age: int, oldest_build: str, hinders: bool
) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat(state, 0))
    with transaction():
        execute("UPDATE worker_heartbeats SET last_tick_at = now() - %(age)s * interval '1 s'", age=age)
    later = later_build(further(FURTHER, f"oldest build: {oldest_build}"))
    if hinders:
        with pytest.raises(Conflict, match=f"1 live .* cannot run on {FURTHER}: .*--force"):
            migrate.apply_pending(database, bundle=later, alive=ALIVE)
        assert applied(database)[-1] == NEWEST
    asked = None if hinders else ALIVE
    assert migrate.apply_pending(database, bundle=later, alive=asked) == (FURTHER,)


def test_a_deferrable_migration_waits_until_the_workers_are_gone_that_cannot_run_on_it(database: str) -> None:
    column, table = "ALTER TABLE runs ADD COLUMN mood text;", NOTES
    later, after = (
        further(FURTHER, "deferrable: the last step", up=column, down="ALTER TABLE runs DROP COLUMN mood;"),
        compatible("0901_after", depends=FURTHER, up=table, down="DROP TABLE notes;"),
    )
    bundle, postponed = later_build(later, after), list[migrate.Postponed]()
    worker = WorkerIdentity(uuid4(), "kimi", 4)
    write_heartbeat(worker, Heartbeat("working", 0))

    def up() -> tuple[str, ...]:
        return migrate.apply_pending(database, bundle=bundle, alive=ALIVE, on_postponed=postponed.append)

    def back(to: str) -> list[str]:
        plan = migrate.plan_down(database, to=to, bundle=bundle)
        migrate.roll_back(database, plan, alive=None)
        return [files.id for files in plan.steps]

    before = dump(database)
    assert up() == ("0901_after",)
    assert up() == ()
    assert postponed == [migrate.Postponed(FURTHER, "1 live worker(s) are of a build that cannot run on it")] * 2
    # What comes after it can be rolled back without it, to the state in which a build was that has it, and to the one
    # before.
    assert back(FURTHER) == ["0901_after"]
    assert back(FURTHER) == []
    assert dump(database) == before
    assert up() == ("0901_after",)
    assert back(NEWEST) == ["0901_after"]

    assert up() == ("0901_after",)
    write_heartbeat(worker, Heartbeat("stopped", 0))
    assert up() == (FURTHER,)
    assert back(NEWEST) == ["0901_after", FURTHER]
    assert dump(database) == before
    assert up() == (FURTHER, "0901_after")
    assert len(postponed) == 4
    with pytest.raises(NotFound):
        migrate.plan_down(database, to="0900_unknown", bundle=bundle)


def test_one_that_builds_on_a_postponed_one_is_postponed_with_it(database: str) -> None:
    first = further(FURTHER, "deferrable: the first half", f"oldest build: {FURTHER}")
    second = further(
        "0901_second",
        "deferrable: the second half",
        f"oldest build: {FURTHER}",
        up="ALTER TABLE notes ADD COLUMN mood text;",
        down="ALTER TABLE notes DROP COLUMN mood;",
        depends=FURTHER,
    )
    bundle, worker = later_build(first, second), WorkerIdentity(uuid4(), "kimi", 4)
    write_heartbeat(worker, Heartbeat("working", 0))
    assert migrate.apply_pending(database, bundle=bundle, alive=ALIVE) == ()
    write_heartbeat(worker, Heartbeat("stopped", 0))
    assert migrate.apply_pending(database, bundle=bundle, alive=ALIVE) == (FURTHER, "0901_second")


def test_a_migration_that_its_build_can_do_without_is_rolled_back_under_live_workers(database: str) -> None:
    migrate.apply_pending(database, bundle=later_build(further(FURTHER, "deferrable: only an index")))
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4, newest_migration=FURTHER), Heartbeat("working", 0))
    assert down(database) == [FURTHER]


@pytest.mark.parametrize(
    ("pending", "warning"),
    [
        (
            further(FURTHER, f"oldest build: {NEWEST}"),
            f"APIs of 0.0.1+old, 0.0.2 are connected: they work on only if they know {NEWEST}",
        ),
        (further(FURTHER, f"oldest build: {own_bundle().ids[0]}"), ""),
        (None, ""),
    ],
    ids=["asks for a newer build", "asks for no newer one", "nothing"],
)
def test_apis_of_other_builds_are_named(database_url: str, pending: MigrationFiles | None, warning: str) -> None:
    files = (pending,) if pending else ()
    assert migrate.warning_about_apis(database_url, files, "1.0.0") == ""
    names = [name_session("api", "0.0.2"), name_session("api", "0.0.1+old"), name_session("worker", "0.0.1")]
    with ExitStack() as stack:
        for name in (*names, name_session("api", "1.0.0")):
            stack.enter_context(closing(psycopg2.connect(database_url, application_name=name)))
        assert migrate.warning_about_apis(database_url, files, "1.0.0") == warning


def test_what_follows_the_contraction_goes_up_and_down_in_either_order(database_url: str) -> None:
    contraction = "0023_snapshots_only"
    files = own_bundle().migrations
    without = Bundle(each for each in files.values() if each.id != contraction)
    after = tuple(id for id in files if id > contraction)

    def back(to: str) -> None:
        migrate.roll_back(database_url, migrate.plan_down(database_url, to=to), alive=None)

    complete = dump(database_url)
    back("0022_snapshots")
    before = dump(database_url)
    assert migrate.apply_pending(database_url, bundle=without) == after
    back(contraction)
    assert dump(database_url) == before
    assert migrate.apply_pending(database_url, bundle=without) == after
    assert migrate.apply_pending(database_url) == (contraction,)
    assert dump(database_url) == complete
    back("0022_snapshots")
    assert dump(database_url) == before
