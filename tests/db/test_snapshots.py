"""What runs were created with is stored once, found by every reader, and purged after the last of these runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg2
import pytest

from tests.db.schemas import build_up_to, run_sql
from tests.support.actors import OPERATOR
from tests.support.runs import CATALOG, TESTER, create, read
from tests.support.snapshots import keep_in_a_document, kept_by, stored_snapshots
from tests.support.statements import counted
from tests.support.waiting import eventually
from tests.support.work import WORKER, claim_next, finish_next
from vm_webapp.access.keys import create_key
from vm_webapp.access.run_quota import QuotaExceeded, RunQuota
from vm_webapp.context import brands
from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, execute, open_pool, transaction
from vm_webapp.digest import digest_of
from vm_webapp.ops.snapshot_purge import purge_snapshots
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import NewRun
from vm_webapp.runs.snapshot_moves import move_batch
from vm_webapp.runs.snapshots import KeptSnapshots, NewSnapshot, values_of
from vm_webapp.runs.statements.snapshots import STORE_FURTHER_SNAPSHOTS

pytestmark = pytest.mark.usefixtures("database")

BEFORE_CONTRACTION = "0022_snapshots"
WAITING = """
    SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


def a_brand(**fields: object) -> UUID:
    return brands.create({"name": "Korn", **fields}, actor=OPERATOR).id


def delete_runs() -> None:
    with transaction():
        execute("DELETE FROM runs")


def purge_snapshots_elsewhere(url: str) -> list[tuple[object, ...]]:
    """Delete the snapshots that no other session has locked; return what was deleted."""
    return run_sql(
        url,
        "DELETE FROM snapshots WHERE digest IN (SELECT digest FROM snapshots FOR UPDATE SKIP LOCKED) RETURNING digest",
    )


def documents() -> list[bool]:
    """Return of each run, oldest first, whether it has a document of its own."""
    return [each["own"] for each in read("SELECT snapshot IS NOT NULL AS own FROM runs ORDER BY id")]


def roll_back_to_documents(url: str) -> None:
    migrate.roll_back(url, migrate.plan_down(url, to=BEFORE_CONTRACTION), alive=None)


def test_runs_of_one_workflow_and_brand_share_two_rows() -> None:
    brand = a_brand()
    for _ in range(3):
        create(brand_id=brand)
    assert stored_snapshots() == 2
    assert documents() == [False] * 3
    brands.change(brand, {"voice": "dry"}, version=1, actor=OPERATOR)
    create(brand_id=brand)
    assert stored_snapshots() == 3


def test_the_digest_is_that_of_the_stored_content() -> None:
    create(brand_id=a_brand(voice="wärmer – 🙂"))
    for each in read("SELECT digest, content FROM snapshots"):
        assert digest_of(each["content"]) == bytes(each["digest"])


def test_a_document_is_sent_once(database: str) -> None:
    long = replace(CATALOG.get("smoke"), description="x" * 100_000)
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        sizes = []
        for _ in range(3):
            traffic.taken()
            lifecycle.create_run(NewRun(long, "a request"), actor=TESTER)
            sizes.append(sum(len(query.sql) for query in traffic.taken() if query.sql.startswith("EXECUTE")))
        close_pool()
    assert sizes[0] > 100_000
    assert max(sizes[1:]) < 5_000


def test_a_claim_does_not_read_what_the_worker_has(database: str) -> None:
    long = replace(CATALOG.get("content_calendar"), description=f"{uuid4()} " * 5_000)
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        counts = []
        for _ in range(3):
            lifecycle.create_run(NewRun(long, "a request"), actor=TESTER)
            traffic.taken()
            (claim,) = lifecycle.claim_due_stages(WORKER, [uuid4()]).claims
            assert claim.workflow == long
            counts.append(len([query for query in traffic.taken() if query.sql.startswith("EXECUTE")]))
        close_pool()
    assert counts == [2, 1, 1]


def test_no_more_snapshots_are_kept_than_the_most() -> None:
    kept = KeptSnapshots(most=2)
    digests = [digest_of(number) for number in range(4)]
    with transaction():
        for number, digest in enumerate(digests):
            execute("INSERT INTO snapshots VALUES (%(digest)s, %(content)s)", digest=digest, content=str(number))
        assert all(kept.read([digest]) for digest in digests)
        execute("DELETE FROM snapshots")
    assert [bool(kept.read([digest])) for digest in digests] == [False, False, True, True]


def test_a_snapshot_is_purged_with_the_last_run_that_refers_to_it() -> None:
    brand = a_brand()
    first, second = create(brand_id=brand).run, create().run
    assert purge_snapshots() == 0
    with transaction():
        execute("DELETE FROM runs WHERE id = %(id)s", id=first.id)
    assert (purge_snapshots(), stored_snapshots()) == (1, 1)
    assert kept_by(second.id)["workflow"]["name"] == "content_calendar"
    delete_runs()
    assert (purge_snapshots(), stored_snapshots()) == (1, 0)


@pytest.mark.parametrize("with_brand", [False, True])
def test_a_run_brings_back_what_was_purged(with_brand: bool) -> None:
    brand = a_brand() if with_brand else None
    create(brand_id=brand)
    delete_runs()
    purge_snapshots()
    run = create(brand_id=brand).run
    assert stored_snapshots() == 1 + with_brand
    assert (kept_by(run.id)["brand"] is not None) == with_brand
    assert claim_next(run.id).workflow == CATALOG.get("content_calendar")


def test_a_run_that_brings_back_what_was_purged_is_counted_once() -> None:
    quota = RunQuota(create_key("one", actor=OPERATOR).id, runs_per_day=2)
    new = NewRun(CATALOG.get("smoke"), "a request")
    lifecycle.create_run(new, actor=TESTER, quota=quota)
    delete_runs()
    assert purge_snapshots() == 1
    lifecycle.create_run(new, actor=TESTER, quota=quota)
    with pytest.raises(QuotaExceeded):
        lifecycle.create_run(new, actor=TESTER, quota=quota)


def test_a_run_waits_for_the_purge_of_its_snapshot_and_stores_it_again(database: str) -> None:
    create("smoke")
    delete_runs()
    with ThreadPoolExecutor(1) as pool, closing(psycopg2.connect(database)) as purge, purge.cursor() as cursor:
        cursor.execute("DELETE FROM snapshots")
        created = pool.submit(create, "smoke")
        eventually(lambda: run_sql(database, WAITING), "the new run waits for the purge")
        purge.commit()
        run = created.result(10).run
    assert kept_by(run.id)["workflow"]["name"] == "smoke"


def test_a_purge_leaves_what_a_run_is_being_created_with(database: str) -> None:
    create("smoke")
    delete_runs()
    with closing(psycopg2.connect(database)) as creating, creating.cursor() as cursor:
        cursor.execute("SELECT FROM snapshots FOR KEY SHARE")
        assert purge_snapshots() == 0
        creating.rollback()
    assert purge_snapshots() == 1


def test_what_was_stored_meanwhile_is_locked_beside_other_new_runs(database: str) -> None:
    create("smoke")
    unseen = f"WITH found AS (SELECT ''::bytea AS digest) {STORE_FURTHER_SNAPSHOTS}"
    workflow = NewSnapshot.of_workflow(CATALOG.get("smoke"))
    delete_runs()
    with closing(psycopg2.connect(database)) as another, another.cursor() as cursor, transaction():
        cursor.execute("SELECT FROM snapshots FOR KEY SHARE")
        # Two that wait for each other's workflow and brand would be a deadlock.
        execute("SET LOCAL lock_timeout = '1s'")
        execute(unseen, **values_of([workflow]))
        another.rollback()
        assert purge_snapshots_elsewhere(database) == []


def test_a_snapshot_that_a_run_refers_to_cannot_be_deleted(database: str) -> None:
    create("smoke")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        run_sql(database, "DELETE FROM snapshots")


def test_a_run_of_the_build_before_is_read_from_its_document() -> None:
    run = create("landing_page", brand_id=a_brand(voice="warm")).run
    kept = keep_in_a_document(run.id)
    claim = claim_next(run.id)
    assert claim.workflow == CATALOG.get("landing_page")
    assert (claim.snapshot["brand"], claim.snapshot["project"]) == (kept["brand"], None)
    origin = queries.read_origin(run.id)
    assert (origin.title, origin.brand) == (kept["workflow"]["title"], kept["brand"])
    assert lifecycle.release_stage_if_held(claim)
    finish_next(run.id)
    (draft,) = queries.list_approvals(limit=9, after=None).items
    assert draft.brand == "Korn"


def test_a_fork_of_a_run_of_the_build_before_refers_to_snapshots() -> None:
    run = create(brand_id=a_brand(voice="warm"), request="of old").run
    kept = keep_in_a_document(run.id)
    fork = lifecycle.fork_run(run.id, from_stage=run.stages[0].key, request=None, actor=TESTER)
    assert kept_by(fork.id) == kept_by(run.id) == kept
    assert documents() == [False, False]


def test_documents_are_moved_in_batches() -> None:
    runs = [create("smoke", brand_id=a_brand(voice=voice)).run for voice in ("warm", "dry", "dry")]
    kept = [keep_in_a_document(run.id) for run in runs]
    with transaction():
        execute("UPDATE runs SET snapshot = '{}' WHERE id = %(id)s", id=runs[0].id)
    assert [move_batch(2), move_batch(2), move_batch(2)] == [2, 1, 0]
    assert documents() == [False] * 3
    assert [kept_by(run.id) for run in runs[1:]] == kept[1:]
    # It can be read no better than before.
    assert len(lifecycle.claim_due_stages(WORKER, [uuid4() for _ in range(3)]).unreadable) == 1


def test_a_locked_run_is_moved_later(database: str) -> None:
    run = create("smoke").run
    keep_in_a_document(run.id)
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM runs FOR NO KEY UPDATE")
        assert move_batch() == 0
        other.rollback()
    assert move_batch() == 1


def test_before_the_contraction_both_are_written_and_nothing_is_moved_or_purged(database: str) -> None:
    roll_back_to_documents(database)
    brand = a_brand(voice="warm")
    run = create(brand_id=brand, request="a request").run
    fork = lifecycle.fork_run(run.id, from_stage=run.stages[0].key, request=None, actor=TESTER)
    brands.change(brand, {"voice": "dry"}, version=1, actor=OPERATOR)
    other = lifecycle.fork_run(run.id, from_stage=run.stages[0].key, request=None, actor=TESTER, refresh_context=True)
    found = read("SELECT id, snapshot FROM runs")
    assert {each["id"]: each["snapshot"] for each in found} == {id: kept_by(id) for id in (run.id, fork.id, other.id)}
    assert [each["snapshot"]["brand"]["voice"] for each in found] == ["warm", "warm", "dry"]
    assert move_batch() == 0
    with transaction():
        execute("DELETE FROM runs")
    assert purge_snapshots() == 0
    assert stored_snapshots() == 3


def test_the_rollback_of_the_contraction_fills_what_is_missing_while_runs_are_in_flight(database: str) -> None:
    runs = [create(brand_id=a_brand(), request=str(number)).run for number in range(3)]
    old = create("smoke").run
    keep_in_a_document(old.id)
    claim = claim_next(runs[0].id)
    roll_back_to_documents(database)
    assert documents() == [True] * 4
    assert read("SELECT snapshot FROM runs WHERE id = %(id)s", id=runs[1].id) == [{"snapshot": kept_by(runs[1].id)}]
    assert lifecycle.release_stage_if_held(claim)
    for run in runs:
        finish_next(run.id)
    assert migrate.apply_pending(database, bundle=build_up_to("0023_snapshots_only")) == ("0023_snapshots_only",)
    assert move_batch() == 4
    assert documents() == [False] * 4
