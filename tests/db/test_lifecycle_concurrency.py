"""Transitions that collide: none is illegal, none deadlocks, and a run's events are in the order of their commits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.db.timeline import KEEP_SNAPSHOTS, OUT_OF_ORDER, replay_run
from tests.support.databases import APPLICATION
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import close_pool, execute, jsonb, transaction
from vm_webapp.errors import Conflict
from vm_webapp.execution.finishing import FinishTogether
from vm_webapp.execution.leases import renew_leases
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle import Claim, Claimant, Ending, NewRun
from vm_webapp.runs.states import Failure
from vm_webapp.workflows.loader import load_catalog
from vm_webapp.workflows.model import RetryPolicy

CATALOG = load_catalog()
WORKFLOW = replace(CATALOG.get("landing_page"), retry=RetryPolicy(3, base_seconds=0.0, max_seconds=0.0))
BROKEN = Failure("llm_broken_stream", "cut off", permanent=False)
REFUSED = Failure("llm_refused", "HTTP 400", permanent=True)
OVERLOADED = Failure("llm_overloaded", "HTTP 503", permanent=False, overload=True)
TEXT = Completion("# A document", "kimi")
WORKER = Claimant(uuid4(), "kimi")
OPERATIONS = ("claim", "finish", "fail", "refuse", "overload", "release", "rescue", "renew", "cancel")
REVIEWS = ("approve", "change", "retry", "time")


@dataclass
class Shared:
    """What the threads of a batch work on together."""

    runs: list[UUID]
    stages: list[UUID]
    claims: list[Claim]
    finishing: FinishTogether = field(default_factory=lambda: FinishTogether(WORKER))


@pytest.fixture
def snapshots(database: str) -> str:
    """The database, whose events record the snapshots that they were written under."""
    with transaction():
        execute(KEEP_SNAPSHOTS)
    return database


@contextmanager
def outside(url: str) -> Iterator[Any]:
    """A session that does not belong to the pool."""
    with closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
        yield cursor
        session.rollback()  # the server would end it only some time after the connection


def create_runs(count: int, **options: Any) -> Shared:
    created = [lifecycle.create_run(NewRun(WORKFLOW, "x", **options), actor=Actor("tests")) for _ in range(count)]
    ids = [run.id for run in created]
    stages = read("SELECT id FROM stages WHERE run_id = ANY(%(ids)s::uuid[])", ids=ids)
    return Shared(ids, [stage["id"] for stage in stages], [])


def perform(shared: Shared, operation: str, pick: int) -> None:
    """Perform one operation on a run or stage that other threads use, too; it may be refused as well as succeed."""
    claimant = Claimant(uuid4(), "kimi", cap=(None, 2, 3)[pick % 3])
    run = shared.runs[pick % len(shared.runs)]
    if operation == "claim":
        claim = lifecycle.claim_stage(shared.stages[pick % len(shared.stages)], claimant, token=uuid4())
        # Each skips what another thread has locked at that moment.
        shared.claims += [claim] if claim else lifecycle.claim_due_stages(claimant, [uuid4(), uuid4()]).claims
    elif operation == "rescue":
        with transaction():
            execute(
                "UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE status = 'running' AND id = %(id)s",
                id=shared.stages[pick % len(shared.stages)],
            )
        lifecycle.rescue_expired_leases()
    elif operation == "time":
        with transaction():
            execute("UPDATE providers SET paused_until = now() WHERE paused_until IS NOT NULL")
    elif operation in ("cancel", "approve", "change", "retry"):
        decide(run, operation)
    elif shared.claims:
        end(shared, shared.claims[-1 - pick % min(len(shared.claims), 6)], claimant, operation)


def end(shared: Shared, claim: Claim, claimant: Claimant, operation: str) -> None:
    if operation == "finish":
        if claimant.cap is None:
            finished = shared.finishing.finish(Ending(claim, TEXT, next_token=uuid4()))
        else:
            finished = lifecycle.finish_stage_if_held(claim, TEXT, claimant, next_token=uuid4())
        shared.claims += [finished.next] if finished and finished.next else []
    elif operation == "release":
        lifecycle.release_stage_if_held(claim)
    elif operation == "renew":
        renew_leases({each.token: 60.0 for each in shared.claims})
    else:
        failure = {"fail": BROKEN, "refuse": REFUSED, "overload": OVERLOADED}[operation]
        lifecycle.fail_attempt_if_held(claim, failure, jitter=0)


def decide(run: UUID, operation: str) -> None:
    waiting = read(
        """
        SELECT s.key, a.sha256 FROM stages s JOIN artifacts a ON a.stage_id = s.id
         WHERE s.run_id = %(id)s AND s.status = 'waiting_approval' ORDER BY a.version DESC LIMIT 1
        """,
        id=run,
    )
    try:
        if operation == "cancel":
            lifecycle.cancel_run_if_open(run, actor=Actor("ann"))
        elif operation == "retry":
            lifecycle.retry_run_if_failed(run, from_stage=None, actor=Actor("ann"))
        elif waiting and operation == "approve":
            lifecycle.approve_stage_if_waiting(
                run,
                waiting[0]["key"],
                artifact_sha256=waiting[0]["sha256"],
                content="# Mine",
                note=None,
                actor=Actor("ann"),
            )
        elif waiting:
            lifecycle.request_changes_if_waiting(
                run, waiting[0]["key"], artifact_sha256=waiting[0]["sha256"], feedback="shorter", actor=Actor("ann")
            )
    except Conflict:
        pass


def deadlocks(url: str) -> int:
    """Return how many deadlocks PostgreSQL has counted."""
    close_pool()  # a server process reports its statistics when it ends, at the latest
    with outside(url) as cursor:

        def alone() -> bool:
            cursor.execute(
                "SELECT count(*) = 1 FROM pg_stat_activity"
                " WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> %s",
                (APPLICATION,),
            )
            return bool(cursor.fetchone()[0])

        cursor.connection.autocommit = True
        eventually(alone, "the pool's sessions end")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.mark.timeout(3600)
def test_colliding_operations_leave_only_legal_paths_in_the_order_of_commits(snapshots: str, full: bool) -> None:
    """No operation may raise ``DatabaseUnavailable`` either, which is how a deadlock would surface."""

    @settings(
        max_examples=150 if full else 8,
        derandomize=not full,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        seed=st.integers(0, 2**32),
        threads=st.integers(8, 16),
        runs=st.integers(1, 4),
        auto=st.booleans(),
        weights=st.lists(st.integers(1, 8), min_size=len(OPERATIONS) + len(REVIEWS), max_size=13),
    )
    def collide(seed: int, threads: int, runs: int, auto: bool, weights: list[int]) -> None:
        shared = create_runs(runs, auto_approve=auto)
        chance = random.Random(seed)
        # A cancel is final, so it comes last; claims and finishes come often, so that runs advance.
        chances = [3 * weights[0], 3 * weights[1], *weights[2:8], 0, *weights[9:]]
        batch = chance.choices((*OPERATIONS, *REVIEWS), chances, k=220) + ["cancel"] * runs
        picks = [chance.randrange(1000) for _ in batch]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda each: perform(shared, *each), zip(batch, picks, strict=True)))
        for run_id in shared.runs:
            replay_run(run_id)
        assert read(OUT_OF_ORDER) == []
        versions = read("SELECT stage_id, array_agg(version ORDER BY version) AS v FROM artifacts GROUP BY stage_id")
        assert all(stage["v"] == list(range(1, len(stage["v"]) + 1)) for stage in versions)

    collide()
    assert read("SELECT count(DISTINCT writer) > 100 AS enough FROM events") == [{"enough": True}]
    assert deadlocks(snapshots) == 0


def test_the_check_of_the_order_notices_an_event_written_without_the_runs_lock(snapshots: str) -> None:
    run_id = create_runs(1).runs[0]
    with outside(snapshots) as cursor:
        # This row takes the lower id and is committed last: "id > after" would skip it.
        cursor.execute(
            "INSERT INTO events (run_id, type, actor, data) VALUES (%s, 'note', 'tests', %s)", (str(run_id), jsonb({}))
        )
        with transaction():
            append_events(run_id, "tests", NewEvent("note"))
        cursor.connection.commit()
    assert len(read(OUT_OF_ORDER)) == 1


def test_a_transition_waits_for_the_one_before_it_and_its_events_come_later(snapshots: str) -> None:
    shared = create_runs(1, auto_approve=True)  # a finish in the middle of a run writes nothing to the run's row
    run_id = shared.runs[0]
    held = lifecycle.claim_stage(read("SELECT id FROM stages WHERE status = 'queued'")[0]["id"], WORKER, token=uuid4())
    assert held is not None
    with outside(snapshots) as cursor:
        cursor.execute("SELECT 1 FROM runs WHERE id = %s FOR NO KEY UPDATE", (str(run_id),))
        with ThreadPoolExecutor(2) as pool:
            waiting: list[Future[Any]] = [
                pool.submit(lifecycle.finish_stage_if_held, held, TEXT, WORKER, next_token=None),
                pool.submit(lifecycle.cancel_run_if_open, run_id, actor=Actor("ann")),
            ]
            # Which of the two gets the lock first is open; the cancel is the last in either order.
            eventually(lambda: _waiting_for_locks() == 2, "both transitions wait for the run's lock")
            cursor.execute(
                "INSERT INTO events (run_id, type, actor) VALUES (%s, 'note', 'tests') RETURNING id", (str(run_id),)
            )
            first = cursor.fetchone()[0]
            assert not any(future.done() for future in waiting)
            cursor.connection.commit()
            assert [bool(future.result(10)) for future in waiting].count(True) >= 1
    later = read("SELECT id, type FROM events WHERE id >= %(first)s ORDER BY id", first=first)
    assert later[0]["type"] == "note"
    assert later[-1]["type"] == "run.canceled"
    assert read(OUT_OF_ORDER) == []


@pytest.mark.parametrize("locked", ["stages", "runs"])
@pytest.mark.parametrize("cap", [None, 3])
def test_a_claim_waits_for_nobody_and_takes_the_stages_that_are_free(
    snapshots: str, cap: int | None, locked: str
) -> None:
    """With a cap it has locked the provider: if it waited, every other claim of that provider would wait as well."""
    create_runs(3)
    first, *others = read("SELECT id, run_id FROM stages WHERE status = 'queued' ORDER BY run_id")
    worker = replace(WORKER, cap=cap)
    with outside(snapshots) as cursor:
        held = {"stages": first["id"], "runs": first["run_id"]}[locked]
        cursor.execute(f"SELECT 1 FROM {locked} WHERE id = %s FOR NO KEY UPDATE", (str(held),))
        began = time.monotonic()
        assert lifecycle.claim_stage(first["id"], worker, token=uuid4()) is None
        claimed = lifecycle.claim_due_stages(worker, [uuid4(), uuid4(), uuid4()]).claims
        assert time.monotonic() - began < 4  # lock_timeout is five seconds
    assert [each.stage_id for each in claimed] == [stage["id"] for stage in others]
    assert lifecycle.claim_stage(first["id"], worker, token=uuid4())


def test_two_workers_never_claim_the_same_stage(snapshots: str) -> None:
    create_runs(40)
    together = threading.Barrier(4)

    def claim_all(_: int) -> list[UUID]:
        worker, taken = replace(WORKER, worker_id=uuid4()), list[UUID]()
        together.wait(10)
        while len(read("SELECT 1 FROM stages WHERE status = 'queued' LIMIT 1")):
            taken += [each.stage_id for each in lifecycle.claim_due_stages(worker, [uuid4() for _ in range(3)]).claims]
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [stage for stages in pool.map(claim_all, range(4)) for stage in stages]
    assert len(taken) == len(set(taken)) == 40


def test_a_finish_waits_for_the_next_stage_before_it_takes_the_provider(snapshots: str) -> None:
    create_runs(1, auto_approve=True)
    first, second = (s["id"] for s in read("SELECT id FROM stages ORDER BY position LIMIT 2"))
    held = lifecycle.claim_stage(first, WORKER, token=uuid4())
    assert held is not None
    # Otherwise the success would have nothing to reset, and would not lock the provider's row at all.
    with transaction():
        execute("INSERT INTO providers (name, consecutive_failures) VALUES ('kimi', 1)")
    with outside(snapshots) as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("SELECT 1 FROM stages WHERE id = %s FOR NO KEY UPDATE", (str(second),))
        finishing = pool.submit(lifecycle.finish_stage_if_held, held, TEXT, WORKER, next_token=uuid4())
        eventually(lambda: _waiting_for_locks() == 1, "the finish waits for the next stage")
        cursor.execute("SELECT 1 FROM providers WHERE name = 'kimi' FOR UPDATE NOWAIT")
        cursor.connection.rollback()
        finished = finishing.result(10)
    assert finished is not None
    assert finished.next is not None


def test_a_rescue_skips_what_another_transaction_has_locked(snapshots: str) -> None:
    shared = create_runs(2)
    for stage in read("SELECT id FROM stages WHERE status = 'queued'"):
        assert lifecycle.claim_stage(stage["id"], WORKER, token=uuid4())
    with transaction():
        execute("UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'")
    with outside(snapshots) as cursor:
        cursor.execute("SELECT 1 FROM runs WHERE id = %s FOR NO KEY UPDATE", (str(shared.runs[0]),))
        assert len(lifecycle.rescue_expired_leases().queued) == 1
    assert len(lifecycle.rescue_expired_leases().queued) == 1


def test_a_thousand_expired_leases_are_rescued_once_each_by_workers_that_compete(snapshots: str) -> None:
    with transaction():
        execute(
            """
            WITH made AS (
                INSERT INTO runs (id, workflow, status, request, snapshot, started_at)
                SELECT gen_random_uuid(), 'w', 'running', 'x', '{}', now() FROM generate_series(1, 1000) RETURNING id
            )
            INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                                lease_token, lease_expires_at, deadline_at, rescues)
            SELECT gen_random_uuid(), id, 1, 'a', 'A', 'running', 0, false, true, gen_random_uuid(),
                   now() - interval '1 s', now(), CASE WHEN random() < 0.1 THEN 5 ELSE 0 END FROM made
            """
        )
    taken: list[UUID] = []
    lock = threading.Lock()

    def rescue_all(_: int) -> None:
        # Locked rows are skipped, so an empty batch does not mean that none is left while other threads are at work.
        while True:
            batch = lifecycle.rescue_expired_leases()
            with lock:
                taken.extend((*batch.queued, *batch.failed))
                if len(taken) >= 1000:
                    return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rescue_all, range(4)))
    assert len(taken) == len(set(taken)) == 1000
    events = read("SELECT type, count(*) AS n, count(DISTINCT run_id) AS runs FROM events GROUP BY type")
    counts = {event["type"]: event["n"] for event in events}
    assert all(event["n"] == event["runs"] for event in events)
    assert counts["stage.rescued"] + counts["stage.failed"] == 1000
    assert counts["run.failed"] == counts["stage.failed"] > 0


def _waiting_for_locks() -> int:
    return int(
        read(
            """
            SELECT count(*) AS n FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'
            """
        )[0]["n"]
    )
