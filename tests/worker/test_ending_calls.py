"""Model calls that must end: the run is canceled, the lease is lost, the deadline passes, the worker shuts down."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors import middleware
from tests.fakes.behaviours import GOOD, Behaviour, delayed, refusal, stalled
from tests.fakes.model_server import ModelServer
from tests.fakes.providers import stop_loop
from tests.support.runs import create, lost_hints, read, types, wait_until_still
from tests.support.waiting import eventually
from tests.support.work import finish_next
from tests.worker.conftest import StartWorker, kimi, let_one_thread_die, runtime
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.execution.finishing import FinishTogether
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import ClaimedStages
from vm_webapp.runs.records import NewestArtifact
from vm_webapp.runs.states import LEASE_GRACE_SECONDS
from vm_webapp.workflows.loader import load_catalog

SILENT = Behaviour(silent=True)


def scheduled_retries() -> list[dict[str, Any]]:
    """Return the data of the ``stage.retry_scheduled`` events."""
    return read("SELECT data FROM events WHERE type = 'stage.retry_scheduled'")


@pytest.mark.parametrize("behaviour", [SILENT, stalled()], ids=["no response at all", "silence in mid-text"])
def test_a_cancel_reaches_a_silent_call_within_two_seconds_and_frees_its_thread(
    start_worker: StartWorker, model: ModelServer, behaviour: Behaviour
) -> None:
    model.enqueue(behaviour)
    with start_worker(**kimi(model, worker_threads=1)):
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1)
        lifecycle.cancel_run_if_open(run_id, actor=Actor("ann"))
        began = time.monotonic()
        model.wait_until(lambda server: server.disconnects == 1)
        assert time.monotonic() - began < 2.0
        assert wait_until_still(create("content_calendar").run.id).status == "completed"
    assert queries.get_run(run_id).status == "canceled"
    assert types(run_id)[-1] == "run.canceled"


def test_a_call_past_its_deadline_is_canceled_and_counts_as_failure(
    start_worker: StartWorker, model: ModelServer
) -> None:
    model.enqueue(SILENT)
    with start_worker(**kimi(model)):
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1)
        (held,) = runtime().runner.leases.held()
        held.deadline = time.monotonic() - LEASE_GRACE_SECONDS
        retries = eventually(scheduled_retries, "the attempt ends with a retry")
        assert (retries[0]["data"]["code"], retries[0]["data"]["counted"]) == ("llm_timeout", True)
        assert "stage.released" not in types(run_id)
        assert read("SELECT failures FROM stages WHERE attempt > 0") == [{"failures": 1}]


def test_what_a_failed_call_cost_is_counted(start_worker: StartWorker, model: ModelServer) -> None:
    counted = {"prompt_tokens": 500, "completion_tokens": 60}
    model.enqueue(Behaviour(text="# Plan\n\nWeek 1 we", finish_reason="abort", usage=counted))
    with start_worker(**kimi(model)):
        run_id = create("content_calendar").run.id
        eventually(scheduled_retries, "the attempt ends with a retry")
        run = queries.get_run(run_id)
        assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (500, 60)
        assert queries.list_artifacts(run_id) == []


def test_a_call_that_starts_late_gets_the_rest_of_its_attempts_time(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_artifacts, asked, given = queries.newest_artifacts, list[float](), list[float]()

    def fail_for_a_while(run_id: UUID) -> dict[str, NewestArtifact]:
        asked.append(time.monotonic())
        if time.monotonic() < asked[0] + 1.5:
            raise DatabaseUnavailable("down")
        return read_artifacts(run_id)

    monkeypatch.setattr(queries, "newest_artifacts", fail_for_a_while)
    run_id = create("content_calendar").run.id
    finish_next(run_id)  # a worker does not read what it has written itself
    with start_worker():
        calls = runtime().calls
        submit = calls.submit

        def note(*arguments: Any, timeout_seconds: float, **others: Any) -> Any:
            given.append(timeout_seconds)
            return submit(*arguments, timeout_seconds=timeout_seconds, **others)

        monkeypatch.setattr(calls, "submit", note)
        assert wait_until_still(run_id).status == "completed"
    whole = load_catalog().get("content_calendar").stages[1].timeout_seconds
    assert whole - 3 < given[0] < whole - 1


@pytest.mark.parametrize(("owner", "step"), [(FinishTogether, "finish"), (lifecycle, "fail_attempt_if_held")])
def test_an_attempt_whose_result_cannot_be_written_is_retried_as_an_internal_error(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, model: ModelServer, owner: object, step: str
) -> None:
    write, tries = getattr(owner, step), 0

    def refuse_once(*arguments: Any, **others: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return write(*arguments, **others)

    monkeypatch.setattr(owner, step, refuse_once)
    if step == "fail_attempt_if_held":
        model.enqueue(refusal(500, "server_error", "boom"))
    with start_worker(**kimi(model)):
        run_id = create("content_calendar").run.id
        retries = eventually(scheduled_retries, "a retry")
    assert retries[0]["data"]["code"] == "internal_error"
    # What the completion cost that could not be stored; the refusal cost nothing.
    assert (queries.get_run(run_id).usage.completion_tokens > 0) is (step == "finish")
    assert read("SELECT rescues, failures FROM stages WHERE attempt > 0") == [{"rescues": 0, "failures": 1}]
    assert types(run_id)[-1] == "stage.retry_scheduled"


def test_a_mirror_that_fails_after_a_finish_does_not_stop_the_run(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: Any, **__: Any) -> bool:
        raise ValueError("no such disk")

    monkeypatch.setattr(ArtifactMirror, "write", break_down)
    with start_worker():
        assert wait_until_still(create("content_calendar").run.id).status == "completed"


def test_a_claim_whose_commit_result_was_lost_is_executed(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, lost = lifecycle.claim_due_stages, list[UUID]()

    def lose_the_first_result(*arguments: Any, **others: Any) -> ClaimedStages:
        claimed = claim(*arguments, **others)
        if claimed.claims and not lost:
            lost.extend(each.stage_id for each in claimed.claims)
            raise DatabaseUnavailable("the connection broke in COMMIT")
        return claimed

    monkeypatch.setattr(lifecycle, "claim_due_stages", lose_the_first_result)
    with start_worker():
        assert wait_until_still(create("smoke").run.id).status == "completed"
    assert lost
    assert read("SELECT attempt, rescues FROM stages") == [{"attempt": 1, "rescues": 0}]


def test_a_lost_lease_ends_the_call_and_its_result_is_not_written(
    start_worker: StartWorker, model: ModelServer
) -> None:
    model.enqueue(SILENT)
    with start_worker(**kimi(model), poll_seconds=30):
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1)
        with lost_hints():
            _take_over(run_id)
        model.wait_until(lambda server: server.disconnects == 1)
        eventually(lambda: len(runtime().runner.leases) == 0, "the thread is free")
    assert queries.list_artifacts(run_id) == []
    assert queries.get_run(run_id).stages[0].status == "running"


def _take_over(run_id: UUID) -> None:
    """Rescue the stage and claim it for another worker."""
    (stage,) = read("SELECT id FROM stages WHERE run_id = %(id)s AND status = 'running'", id=run_id)
    # In one transaction: its own worker can neither renew the expired lease nor rescue and claim the stage itself.
    with transaction():
        execute("UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE id = %(id)s", id=stage["id"])
        assert lifecycle.rescue_expired_leases().queued == (stage["id"],)
        assert lifecycle.claim_stage(stage["id"], lifecycle.Claimant(uuid4(), "kimi"), token=uuid4())


def test_a_drain_lets_a_call_in_flight_finish_and_leaves_the_next_stage_queued(
    start_worker: StartWorker, model: ModelServer
) -> None:
    model.enqueue(delayed(0.7))
    with start_worker(**kimi(model, drain_seconds=10)):
        run_id = create("plan_90d", auto_approve=True).run.id
        model.wait_until(lambda server: server.in_flight == 1)
    run = queries.get_run(run_id)
    assert [stage.status for stage in run.stages] == ["completed", "queued", "pending"]
    assert len(model.requests) == 1


def test_a_drain_releases_stages_that_do_not_finish_in_time(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(SILENT, SILENT)
    with start_worker(**kimi(model, drain_seconds=0.2)):
        runs = [create("content_calendar").run.id for _ in range(2)]
        model.wait_until(lambda server: server.in_flight == 2)
    assert model.disconnects == 2
    for run_id in runs:
        assert types(run_id)[-1] == "stage.released"
        assert queries.get_run(run_id).stages[0].status == "queued"
    counters = read("SELECT failures, rescues, releases FROM stages WHERE attempt > 0")
    assert [tuple(each.values()) for each in counters] == [(0, 0, 1)] * 2
    model.script = lambda body: GOOD
    with start_worker(**kimi(model)):
        assert {wait_until_still(run_id).status for run_id in runs} == {"completed"}


def test_the_heartbeat_reports_state_outcome_and_counters(start_worker: StartWorker, model: ModelServer) -> None:
    with start_worker(**kimi(model, drain_seconds=5)):
        wait_until_still(create("content_calendar").run.id)
        seen = eventually(
            # A heartbeat may come after the run's last commit and before that stage is counted.
            lambda: read(
                "SELECT * FROM worker_heartbeats WHERE state = 'working' AND (counters->>'finished')::int >= 2"
            ),
            "a heartbeat that counts both stages",
        )[0]
        assert (seen["slots"], seen["provider"], seen["last_model_outcome"]["code"]) == (4, "kimi", "ok")
        assert seen["counters"]["finished"] == 2
        assert seen["last_claim_at"] is not None
        model.enqueue(delayed(2.0))
        create("content_calendar")
        model.wait_until(lambda server: server.in_flight == 1)
    (ended,) = read("SELECT state, stopped_at, in_flight, counters FROM worker_heartbeats")
    assert (ended["state"], ended["in_flight"]) == ("stopped", 0)
    assert ended["stopped_at"] is not None
    assert ended["counters"]["attempts"] == ended["counters"]["claimed"] >= 3
    assert ended["counters"]["attempt_ms"] >= 2000


def test_a_worker_with_a_dead_thread_writes_no_heartbeat_and_ends_itself(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: asked.append(number))
    with start_worker() as worker:
        eventually(lambda: read("SELECT 1 AS found FROM worker_heartbeats"), "a first heartbeat")
        let_one_thread_die(worker)
        eventually(lambda: asked, "the process asks itself to end")
        before = read("SELECT last_tick_at FROM worker_heartbeats")
        pulse = runtime().pulse
        pulse.tick_once(time.monotonic())
        assert read("SELECT last_tick_at FROM worker_heartbeats") == before
        assert middleware.unhealthy


def test_a_worker_whose_call_loop_died_is_unhealthy_and_ends_itself(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: asked.append(number))
    with start_worker():
        wait_until_still(create("smoke").run.id)
        calls = runtime().calls
        assert calls.alive()
        stop_loop(calls)
        eventually(lambda: asked, "the process asks itself to end")
        assert middleware.unhealthy


def test_a_model_that_sends_moves_the_deadline_of_its_attempt(start_worker: StartWorker, model: ModelServer) -> None:
    model.enqueue(Behaviour(delay=1.5, stall_after=1))
    with start_worker(**kimi(model)):
        create("content_calendar")
        model.wait_until(lambda server: server.in_flight == 1)
        (held,) = runtime().runner.leases.held()
        before, stored = held.deadline, deadline_of_the_call()
        eventually(lambda: held.deadline >= before + 1, "the first piece moves the deadline")
        eventually(lambda: deadline_of_the_call() >= stored + 1, "the next renewal moves it in the database")


def deadline_of_the_call() -> float:
    (stage,) = read("SELECT extract(epoch FROM deadline_at)::float8 AS at FROM stages WHERE status = 'running'")
    return float(stage["at"])
