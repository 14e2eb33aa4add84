"""Old finished runs are deleted in small batches; runs in flight are not touched."""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg2
import pytest

from actors.duties import purge
from actors.duties.purge import PurgeAudit, PurgeLeftovers, PurgeRuns
from actors.pulse import DAY, RETRY_PURGE_SECONDS, Purges
from tests.support.actors import OPERATOR
from tests.support.fleet import change
from tests.support.runs import create, read
from tests.support.waiting import eventually
from vm_webapp import idempotency
from vm_webapp.access.actor import Actor
from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.access.rate_windows import take
from vm_webapp.errors import ConfigurationError, DatabaseUnavailable
from vm_webapp.execution.mirror import ArtifactCopy, ArtifactMirror
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.ops import retention
from vm_webapp.ops.retention import BATCH
from vm_webapp.runs import lifecycle
from vm_webapp.settings import read_settings

pytestmark = pytest.mark.usefixtures("database")

AGE = timedelta(days=90)


def finished(*, days: float) -> UUID:
    """Return a run that was canceled, and so finished, this many days ago."""
    run_id = create().run.id
    lifecycle.cancel_run_if_open(run_id, actor=Actor("tests"))
    change("UPDATE runs SET finished_at = now() - %(days)s * interval '1 day' WHERE id = %(id)s", days=days, id=run_id)
    return run_id


def left() -> set[UUID]:
    """Return the runs that are left."""
    return {each["id"] for each in read("SELECT id FROM runs")}


def test_old_finished_runs_are_deleted_with_their_stages_and_events_and_no_others() -> None:
    finished(days=91)
    young, flying = finished(days=89), create().run.id
    change("UPDATE runs SET created_at = now() - interval '200 days'")
    assert retention.count_purgeable(AGE) == 1
    assert retention.purge_all(AGE, actor=OPERATOR) == 1
    assert left() == {young, flying}
    for table in ("stages", "events"):
        assert {each["run_id"] for each in read(f"SELECT run_id FROM {table}")} == {young, flying}


def test_a_batch_deletes_the_oldest_and_no_more_than_its_limit() -> None:
    oldest, older, old = (finished(days=days) for days in (300, 200, 100))
    assert retention.purge_batch(AGE, limit=1) == [oldest]
    assert left() == {older, old}
    assert set(retention.purge_batch(AGE, limit=5)) == {older, old}
    assert oldest not in left()


def test_the_parent_of_a_run_in_flight_stays_until_that_is_finished() -> None:
    parent, fork = finished(days=100), create().run.id
    change("UPDATE runs SET parent_run_id = %(parent)s WHERE id = %(fork)s", parent=parent, fork=fork)
    assert (retention.count_purgeable(AGE), retention.purge_all(AGE, actor=OPERATOR)) == (0, 0)
    lifecycle.cancel_run_if_open(fork, actor=Actor("tests"))
    assert retention.purge_all(AGE, actor=OPERATOR) == 1
    assert read("SELECT id, parent_run_id FROM runs") == [{"id": fork, "parent_run_id": None}]


def test_a_run_that_another_transaction_has_locked_is_left_for_the_next_purge(database: str) -> None:
    held, free = finished(days=100), finished(days=100)
    with closing(psycopg2.connect(database)) as session, session.cursor() as cursor:
        cursor.execute("SELECT 1 FROM runs WHERE id = %s FOR NO KEY UPDATE", (str(held),))
        assert retention.purge_batch(AGE) == [free]
    assert left() == {held}
    assert free != held


def purges(older_than: timedelta | None = None, mirror: ArtifactMirror | None = None) -> Purges:
    """Return a worker's purging duties."""
    return Purges(PurgeLeftovers(), PurgeRuns(older_than, mirror), PurgeAudit(None))


def test_a_worker_purges_runs_once_a_day_if_an_age_is_set() -> None:
    finished(days=100)
    keeping, purging = purges(), purges(AGE)
    for now in (1.0, 2.0, 3.0):
        keeping.run_once(now)
    assert len(left()) == 1
    purging.run_once(1.0)
    purging.run_once(2.0)
    assert left() == set()
    again = finished(days=100)
    purging.run_once(4000.0)  # the hourly duties
    purging.run_once(4001.0)
    assert left() == {again}
    purging.run_once(DAY + 10)
    purging.run_once(DAY + 11)
    assert left() == set()


def test_a_worker_deletes_counters_of_limits_that_nobody_uses_any_more() -> None:
    for caller in ("ann", "bob"):
        take(caller, 1, limit=100)
    change("UPDATE rate_windows SET began_at = now() - interval '2 hours' WHERE counted = 'ann'")
    purges().run_once(1.0)
    assert read("SELECT counted FROM rate_windows") == [{"counted": "bob"}]


def test_a_batch_that_takes_too_long_is_tried_again_soon_and_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def delete(older_than: timedelta, *, limit: int) -> list[UUID]:
        sizes.append(limit)
        if limit > 20:
            raise DatabaseUnavailable("canceling statement due to statement timeout")
        return []

    monkeypatch.setattr(purge, "purge_batch", delete)
    duties = purges(AGE)
    duties.run_once(0.0)
    for minute in range(1, 4):
        with suppress(DatabaseUnavailable):
            duties.run_once(minute * RETRY_PURGE_SECONDS)
    assert sizes == [BATCH, BATCH // 2, BATCH // 4]
    duties.run_once(4 * RETRY_PURGE_SECONDS)
    assert len(sizes) == 3, "done for the day"


def test_the_space_of_purged_runs_is_reused(database: str) -> None:
    sizes = []
    for _ in range(6):
        fill(300)
        sizes.append(size())
        assert retention.purge_all(AGE, actor=OPERATOR) == 300
        vacuum(database)
    assert sizes[-1] <= 1.25 * sizes[0], f"six times as much without it: {sizes}"


def fill(runs: int) -> None:
    """Create so many old runs, each with a stage, an incompressible artifact of 8 kB, and a few events."""
    model = finished(days=100)
    change(
        """
        WITH made AS (
            INSERT INTO runs (id, workflow, status, priority, request, auto_approve, workflow_digest, finished_at)
            SELECT gen_random_uuid(), workflow, status, priority, request, auto_approve, workflow_digest, finished_at
              FROM runs, generate_series(2, %(runs)s) WHERE id = %(model)s RETURNING id),
        staged AS (
            INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                                finished_at)
            SELECT gen_random_uuid(), made.id, s.position, s.key, s.title, s.status, s.priority, s.requires_approval,
                   s.needs_model, s.finished_at
              FROM stages s, made WHERE s.run_id = %(model)s AND s.position = 1 RETURNING id, run_id),
        copied_events AS (
            INSERT INTO events (run_id, type, actor, data)
            SELECT made.id, e.type, e.actor, e.data FROM events e, made WHERE e.run_id = %(model)s)
        INSERT INTO artifacts (id, run_id, stage_id, version, name, media_type, sha256, size, content, provider, author)
        SELECT gen_random_uuid(), run_id, id, 1, 'a.md', 'text/markdown', repeat('0', 64), length(content), content,
               'tests', 'tests'
          FROM staged, LATERAL (SELECT string_agg(md5(random()::text || n || staged.id), '') AS content
                                  FROM generate_series(1, 250) n) text
        """,
        runs=runs,
        model=model,
    )


def vacuum(url: str) -> None:
    """Vacuum the tables, as autovacuum would after a while."""
    with closing(psycopg2.connect(url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute("VACUUM runs, stages, artifacts, events")


def size() -> int:
    """Return the size of the tables on disk, with indexes and long values, in bytes."""
    tables = "('runs'), ('stages'), ('artifacts'), ('events')"
    return int(read(f"SELECT sum(pg_total_relation_size(name::regclass)) AS n FROM (VALUES {tables}) t (name)")[0]["n"])


def test_the_copies_in_the_mirror_are_deleted_too(tmp_path: Path) -> None:
    mirror = ArtifactMirror(tmp_path)

    def written(days: float) -> Path:
        run_id = finished(days=days)
        mirror.write([ArtifactCopy(run_id, 1, "plan", version=1, name="plan.md", content="# Plan")])
        return tmp_path / "runs" / str(run_id)

    old, young = written(100), written(1)
    assert retention.purge_all(AGE, mirror, actor=OPERATOR) == 1
    assert (old.exists(), young.exists()) == (False, True)
    old = written(100)
    duties = purges(AGE, mirror)
    duties.run_once(1.0)
    duties.run_once(2.0)
    eventually(lambda: not old.exists(), "the copy is gone")
    assert young.exists()


def test_expired_idempotency_keys_old_keys_old_sessions_and_stopped_workers_are_always_deleted() -> None:
    change(
        "INSERT INTO idempotency_keys (scope_sha256, request_sha256, status, headers, body, created_at)"
        " SELECT convert_to(hours::text, 'UTF8'), 'x', 200, '{}', 'x', now() - hours * interval '1 hour'"
        " FROM unnest(ARRAY[23, 25]) hours"
    )
    create_key("in-force", actor=OPERATOR, lasts=timedelta(days=1))
    create_key("revoked-now", actor=OPERATOR)
    revoke_key("revoked-now", actor=OPERATOR)
    create_key("long-dead", actor=OPERATOR)
    change("UPDATE api_keys SET revoked_at = now() - interval '31 days' WHERE name = 'long-dead'")
    change(
        "INSERT INTO sessions (id, secret_sha256, token_sha256, created_at)"
        " SELECT gen_random_uuid(), uuid_send(gen_random_uuid()), 'x', now() - days * interval '1 day'"
        " FROM unnest(ARRAY[29, 31]) days"
    )
    for age in (23, 25):
        worker = WorkerIdentity(uuid4(), "kimi", 4)
        write_heartbeat(worker, Heartbeat("stopped", 0))
        change(
            "UPDATE worker_heartbeats SET last_tick_at = now() - %(age)s * interval '1 hour' WHERE worker_id = %(id)s",
            age=age,
            id=worker.worker_id,
        )
    purges().run_once(1.0)
    assert len(read("SELECT 1 AS found FROM worker_heartbeats")) == 1
    assert len(read("SELECT 1 AS found FROM idempotency_keys")) == 1
    assert {each["name"] for each in read("SELECT name FROM api_keys")} == {"in-force", "revoked-now"}
    assert len(read("SELECT 1 AS found FROM sessions")) == 1


def test_a_backlog_of_expired_keys_is_deleted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (idempotency, purge):
        monkeypatch.setattr(module, "PURGE_BATCH", 2)
    change(
        "INSERT INTO idempotency_keys (scope_sha256, request_sha256, status, headers, body, created_at)"
        " SELECT convert_to(n::text, 'UTF8'), 'x', 200, '{}', 'x', now() - interval '2 days'"
        " FROM generate_series(1, 3) n"
    )
    duties = purges()
    duties.run_once(1.0)
    assert len(read("SELECT 1 AS found FROM idempotency_keys")) == 1
    duties.run_once(2.0)
    assert read("SELECT 1 AS found FROM idempotency_keys") == []


@pytest.mark.parametrize(("value", "age"), [("", None), ("90d", AGE), ("12h", timedelta(hours=12))])
def test_the_daily_purge_is_off_unless_the_environment_sets_an_age(
    monkeypatch: pytest.MonkeyPatch, value: str, age: timedelta | None
) -> None:
    monkeypatch.setenv("VM_PURGE_OLDER_THAN", value)
    assert read_settings().purge_older_than == age


def test_an_invalid_age_is_refused_with_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VM_PURGE_OLDER_THAN", "soon")
    with pytest.raises(ConfigurationError, match=r"VM_PURGE_OLDER_THAN must be a length of time such as 90d"):
        read_settings()
