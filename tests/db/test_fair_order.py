"""The order in which due stages are claimed: by priority, then fairly between owners, then by age."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import REFUSED, TEXT, WORKER, claimed, complete, fail
from tests.db.schemas import run_sql
from tests.support.actors import OPERATOR
from tests.support.runs import CATALOG, read
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands, projects
from vm_webapp.db.pool import execute, row, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claim, NewRun
from vm_webapp.runs.records import Priority

pytestmark = pytest.mark.usefixtures("database")

# What the build before these tags executes for a new run, without the values that do not matter here.
CREATE_RUN_OF_THE_BUILD_BEFORE = """
    WITH run AS (
        INSERT INTO runs (id, workflow, status, priority, request, auto_approve, brand_id, project_id, snapshot)
        VALUES (%(id)s, 'smoke', 'queued', %(priority)s, 'x', false, %(brand_id)s, NULL, '{}')
        RETURNING created_at
    ), made AS (
        INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                            queued_at, available_at)
        SELECT given.id, %(id)s, position, key, title, CASE position WHEN 1 THEN 'queued' ELSE 'pending' END,
               %(priority)s, false, true,
               CASE position WHEN 1 THEN statement_timestamp() END, CASE position WHEN 1 THEN statement_timestamp() END
          FROM unnest(%(stage_ids)s::uuid[], %(keys)s::text[], %(keys)s::text[])
               WITH ORDINALITY AS given(id, key, title, position)
    ), told AS (
        INSERT INTO events (run_id, stage, type, actor, data) VALUES (%(id)s, NULL, 'run.created', 'tests', '{}')
    )
    SELECT created_at, statement_timestamp() AS queued_at FROM run
"""


def post(owner: str, count: int = 1, *, priority: Priority = "normal", brand_id: UUID | None = None) -> list[UUID]:
    """Create runs."""
    new = NewRun(CATALOG.get("content_calendar"), "a request", brand_id=brand_id, priority=priority)
    return [lifecycle.create_run(new, actor=Actor(owner)).id for _ in range(count)]


def post_by_the_build_before(*, brand_id: UUID | None = None, priority: int = 0) -> UUID:
    """Create a run as the build before these tags does."""
    with transaction():
        run_id, stages = uuid4(), [uuid4() for _ in range(3)]
        values = {"id": run_id, "stage_ids": stages, "keys": ["a", "b", "c"], "brand_id": brand_id}
        row(CREATE_RUN_OF_THE_BUILD_BEFORE, **values, priority=priority)
    return run_id


def begin(count: int = 1) -> list[Claim]:
    """Claim as a worker with so many free slots would."""
    return list(lifecycle.claim_due_stages(WORKER, [uuid4() for _ in range(count)]).claims)


def serve(runs: int) -> list[str]:
    """Carry the next runs through their stages, one after the other; return their owners."""
    return [owner_of(held.run_id) for held in (_served() for _ in range(runs))]


def _served() -> Claim:
    (held,) = begin()
    complete(held)
    return held


def owner_of(run_id: UUID) -> str:
    """Return who created a run."""
    (run,) = read("SELECT created_by FROM runs WHERE id = %(id)s", id=run_id)
    return str(run["created_by"])


def tag_of(run_id: UUID) -> int:
    """Return the start tag of a run, which is that of its stages."""
    tags = read(
        "SELECT start_tag FROM runs WHERE id = %(id)s UNION SELECT start_tag FROM stages WHERE run_id = %(id)s",
        id=run_id,
    )
    (tag,) = tags
    return int(tag["start_tag"])


def test_the_next_slot_that_becomes_free_takes_the_owner_without_a_backlog() -> None:
    post("ann", 200)
    first, _second = begin(2)
    (late,) = post("bob")
    complete(first)
    (following,) = begin()
    assert following.run_id == late
    complete(following)
    assert serve(20) == ["ann"] * 20


def test_a_thread_goes_on_with_the_run_that_it_carries() -> None:
    (first,) = post("ann")
    (held,) = begin()
    post("bob")
    finished = lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert finished.next.run_id == first


def test_owners_with_a_backlog_share_equally_however_it_came_about() -> None:
    for owner, count in (("ann", 40), ("bob", 12), ("cid", 20)):
        post(owner, count)
    assert all(set(serve(3)) == {"ann", "bob", "cid"} for _ in range(5))
    post("bob", 20)
    shares = Counter(serve(36))
    assert max(shares.values()) - min(shares.values()) <= 1


def test_an_owner_that_was_idle_has_saved_nothing_up() -> None:
    post("bob")
    post("ann", 30)
    serve(21)
    post("bob", 10)
    assert all(set(serve(2)) == {"ann", "bob"} for _ in range(5))


def test_runs_one_by_one_cost_their_owner_at_most_a_turn() -> None:
    for _ in range(10):
        post("ann")
        serve(1)
    post("bob", 5)
    post("ann")
    assert "ann" in serve(3)


def test_priority_comes_before_fairness() -> None:
    low = post("bob", 3, priority="low")
    post("ann", 30)
    assert serve(30) == ["ann"] * 30
    assert [held.run_id for held in begin(3)] == low


def test_each_priority_has_tags_of_its_own() -> None:
    """A backlog of one does not put its owner behind others in the other."""
    post("ann", 50)
    post("bob", 3, priority="low")
    (low,) = post("ann", priority="low")
    serve(50)
    assert low in {held.run_id for held in begin(2)}


def test_the_owner_is_the_brand_whoever_creates_the_run() -> None:
    one, other = (brands.create({"name": name}, actor=OPERATOR).id for name in ("One", "Other"))
    project = projects.create({"name": "A project", "brand_id": one}, actor=OPERATOR).id
    post("ann", 5, brand_id=one)
    new = NewRun(CATALOG.get("content_calendar"), "a request", project_id=project)
    of_project = lifecycle.create_run(new, actor=Actor("bob")).id
    (of_other,) = post("ann", brand_id=other)
    without = post("ann", 1)
    assert tag_of(of_project) == 6
    assert [tag_of(run_id) for run_id in (of_other, *without)] == [1, 1]


def test_a_run_that_has_begun_comes_before_all_that_have_not() -> None:
    (first,) = post("ann")
    (held,) = begin()
    post("bob", 5)
    serve(2)
    assert lifecycle.release_stage_if_held(held)
    (again,) = begin()
    assert again.run_id == first
    assert fail(again, REFUSED) == "failed"
    tag = tag_of(first)
    lifecycle.retry_run_if_failed(first, from_stage=None, actor=Actor("ann"))
    assert tag_of(first) == tag
    assert begin()[0].run_id == first


def test_a_fork_is_a_new_run_of_who_forks_it() -> None:
    (parent,) = post("ann")
    serve(1)
    post("ann", 10)
    post("bob", 5)
    key = CATALOG.get("content_calendar").stages[0].key
    of_ann, of_cid = (
        lifecycle.fork_run(parent, from_stage=key, request=None, actor=Actor(actor)).id for actor in ("ann", "cid")
    )
    assert (tag_of(of_ann), tag_of(of_cid)) == (12, 1)
    assert (owner_of(of_ann), owner_of(of_cid)) == ("ann", "cid")


def test_a_fork_that_takes_its_project_to_another_brand_is_of_that_brand() -> None:
    one, other = (brands.create({"name": name}, actor=OPERATOR).id for name in ("One", "Other"))
    project = projects.create({"name": "A project", "brand_id": one}, actor=OPERATOR)
    new = NewRun(CATALOG.get("content_calendar"), "a request", project_id=project.id)
    parent = lifecycle.create_run(new, actor=Actor("ann")).id
    post("ann", 6, brand_id=other)
    projects.change(project.id, {"brand_id": other}, version=1, actor=OPERATOR)
    key = CATALOG.get("content_calendar").stages[0].key
    fork = lifecycle.fork_run(parent, from_stage=key, request=None, actor=Actor("ann"), refresh_context=True).id
    assert tag_of(fork) == 7
    stages = read("SELECT DISTINCT brand_id FROM stages WHERE run_id = %(id)s", id=fork)
    assert stages == [{"brand_id": other}]


def test_runs_that_were_canceled_before_they_began_have_taken_no_turn() -> None:
    for run_id in post("ann", 50):
        lifecycle.cancel_run_if_open(run_id, actor=Actor("ann"))
    post("bob", 10)
    post("ann")
    assert "ann" in serve(2)


def test_runs_of_one_owner_that_are_created_at_the_same_moment_wait_for_no_lock(database: str) -> None:
    (first,) = post("ann")
    with ThreadPoolExecutor(1) as pool, transaction():
        execute("SET LOCAL lock_timeout = '1 s'")
        (uncommitted,) = post("ann")
        (meanwhile,) = pool.submit(post, "ann").result(timeout=20)
        assert run_sql(database, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]
    assert tag_of(uncommitted) == tag_of(meanwhile) == tag_of(first) + 1


def test_a_brand_s_runs_wait_for_no_lock_either() -> None:
    brand = brands.create({"name": "One"}, actor=OPERATOR).id
    post("ann", brand_id=brand)  # the first one stores what it was created with
    with ThreadPoolExecutor(1) as pool, transaction():
        (uncommitted,) = post("ann", brand_id=brand)
        (meanwhile,) = pool.submit(lambda: post("bob", brand_id=brand)).result(timeout=20)
    assert tag_of(uncommitted) == tag_of(meanwhile)


@pytest.mark.parametrize("priority", [0, 1])
def test_runs_of_the_build_before_are_tagged_when_they_are_created(priority: int) -> None:
    named: Priority = "low" if priority else "normal"
    post("ann", 20, priority=named)
    served = [_served() for _ in range(7)]
    old = post_by_the_build_before(priority=priority)
    assert tag_of(old) == tag_of(served[-1].run_id)
    served_next = lifecycle.claim_due_stages(WORKER, [uuid4() for _ in range(2)])
    assert [each.run_id for each in served_next.unreadable] == [old]  # this build cannot read its short snapshot


def test_runs_of_the_build_before_take_turns_by_their_brand_and_count_toward_its_cap() -> None:
    brand = brands.create({"name": "One", "max_running": 2}, actor=OPERATOR).id
    old = [post_by_the_build_before(brand_id=brand) for _ in range(5)]
    assert [tag_of(run_id) for run_id in old] == [1, 2, 3, 4, 5]
    assert tag_of(*post("ann", brand_id=brand)) == 6
    claimed_stages = lifecycle.claim_due_stages(WORKER, [uuid4() for _ in range(5)])
    assert len(claimed_stages.unreadable) == 2


def test_runs_from_before_the_tags_come_first_by_age() -> None:
    old = post("ann", 3) + post("bob", 2)
    with transaction():
        execute("UPDATE runs SET start_tag = 0, created_by = NULL")
        execute("UPDATE stages SET start_tag = 0")
    post("cid", 3)
    assert [held.run_id for held in begin(5)] == old


def test_polls_claims_and_places_have_one_order() -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    runs = [*post("ann", 4), *post("bob", 2), *post("cid", 3), *post("bob", 1, priority="low")]
    stages = {each["id"]: each["run_id"] for each in read("SELECT id, run_id FROM stages WHERE status = 'queued'")}
    found = [stages[id] for id in find_due("kimi", 20, cap=None).ids]
    places = {run_id: queries.get_run(run_id).waiting_on for run_id in runs}
    assert [held.run_id for held in begin(20)] == found
    for place, run_id in enumerate(found):
        waiting = places[run_id]
        assert waiting is not None
        expected = "next in the queue" if place == 0 else f"in the queue: {place} stage"
        assert waiting.detail.startswith(expected)


def test_a_claim_of_one_stage_is_of_that_stage() -> None:
    post("ann", 3)
    (last,) = post("bob")
    (stage,) = read("SELECT id FROM stages WHERE run_id = %(id)s AND position = 1", id=last)
    assert claimed(stage["id"]).run_id == last
