"""The transitions on a real database: guards, fences, counters, and the events on the timeline."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from tests.db.attempts import wait_for_approval
from tests.db.stages import end_pauses, expire_leases, make_due
from tests.support.runs import CreatedRun, create, types
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, row, rows, transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, providers, queries
from vm_webapp.runs.lifecycle import Claim, Claimant, DraftChanged, NewRun
from vm_webapp.runs.records import RunRecord
from vm_webapp.runs.signals import stage_due
from vm_webapp.runs.states import Failure
from vm_webapp.workflows.loader import load_catalog

pytestmark = pytest.mark.usefixtures("database")

CATALOG = load_catalog()
WORKER = Claimant(uuid4(), "kimi")
TEXT = Completion("# A document", "kimi", "k", 10, 20)
BROKEN = Failure("llm_overloaded", "HTTP 503", permanent=False)
REVOKED = Failure("llm_unauthorized", "HTTP 401", permanent=True, pauses_provider=True)
OVERLOADED = Failure("llm_overloaded", "HTTP 503", permanent=False, overload=True)


def claim(created: CreatedRun, claimant: Claimant = WORKER) -> Claim:
    found = lifecycle.claim_stage(created.stage_id, claimant, token=uuid4())
    assert found is not None
    return found


def run_of(created: CreatedRun) -> RunRecord:
    return queries.get_run(created.run.id)


def counters(stage_id: UUID) -> tuple[int, int, int, int]:
    with transaction():
        found = row("SELECT attempt, failures, rescues, releases FROM stages WHERE id = %(id)s", id=stage_id)
    assert found is not None
    return found["attempt"], found["failures"], found["rescues"], found["releases"]


def test_a_run_goes_through_its_stages_to_completed() -> None:
    created = create()
    first = claim(created)
    finished = lifecycle.finish_stage_if_held(first, TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert finished.next.spec.key == "calendar"
    assert lifecycle.finish_stage_if_held(finished.next, TEXT, WORKER, next_token=uuid4()) is not None
    run = run_of(created)
    assert run.status == "completed"
    assert (run.progress.completed, run.usage.completion_tokens) == (2, 40)
    assert types(run.id) == [
        "run.created",
        "stage.queued",
        "run.started",
        "stage.started",
        "stage.completed",
        "stage.queued",
        "stage.started",
        "stage.completed",
        "run.completed",
    ]


def test_a_duplicate_hint_claims_nothing() -> None:
    created = create()
    claim(created)
    assert lifecycle.claim_stage(created.stage_id, WORKER, token=uuid4()) is None


def test_an_unknown_stage_claims_nothing() -> None:
    assert lifecycle.claim_stage(uuid4(), WORKER, token=uuid4()) is None


def test_of_many_claims_at_once_one_wins() -> None:
    created = create()
    # Each under a token of its own, since a claim repeated under the same token recognises itself and succeeds.
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda _: lifecycle.claim_stage(created.stage_id, WORKER, token=uuid4()), range(32)))
    assert sum(found is not None for found in won) == 1


def test_an_attempt_whose_stage_was_taken_over_can_write_nothing() -> None:
    created = create()
    lost = claim(created)
    expire_leases()
    lifecycle.rescue_expired_leases()
    claim(created)  # by the same worker: the attempts are distinguished by their tokens, not by their workers
    before = types(created.run.id)
    assert lifecycle.finish_stage_if_held(lost, TEXT, WORKER, next_token=None) is None
    assert lifecycle.fail_attempt_if_held(lost, BROKEN, jitter=0) is None
    assert not lifecycle.release_stage_if_held(lost)
    assert types(created.run.id) == before
    assert queries.list_artifacts(created.run.id) == []


def test_a_lone_worker_finishes_after_its_lease_ended_if_no_other_took_the_stage() -> None:
    held = claim(create())
    expire_leases()
    assert lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=None) is not None


def test_a_finish_repeated_after_a_lost_commit_recognises_its_own_work() -> None:
    created, token = create(), uuid4()
    held = claim(created)
    first = lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=token)
    again = lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=token)
    assert first is not None
    assert again is not None
    assert first.next == again.next
    assert len(queries.list_artifacts(created.run.id)) == 1


def test_a_claim_repeated_after_a_lost_commit_recognises_its_own_work() -> None:
    created = create()
    stage_id, token = created.stage_id, uuid4()
    first = lifecycle.claim_stage(stage_id, WORKER, token=token)
    assert first is not None
    assert lifecycle.claim_stage(stage_id, WORKER, token=token) == first  # times are not compared, they are read anew
    assert lifecycle.claim_stage(stage_id, WORKER, token=uuid4()) is None
    assert [event.type for event in queries.list_events(created.run.id, after=0, limit=9)].count("stage.started") == 1


def test_a_failure_is_retried_after_a_backoff_and_in_the_end_fails_the_run() -> None:
    created = create()
    budget = CATALOG.get("content_calendar").retry.max_failures
    for number in range(1, budget + 1):
        make_due()
        outcome = lifecycle.fail_attempt_if_held(claim(created), BROKEN, jitter=0.5)
        assert outcome == ("failed" if number == budget else "retrying")
    run = run_of(created)
    assert run.status == "failed"
    assert run.error is not None
    assert (run.error.code, run.error.retryable) == ("llm_overloaded", True)
    assert types(run.id)[-2:] == ["stage.failed", "run.failed"]
    assert counters(created.stage_id) == (budget, budget, 0, 0)


def test_a_stage_that_backs_off_is_not_due() -> None:
    created = create()
    lifecycle.fail_attempt_if_held(claim(created), BROKEN, jitter=0.5)
    assert lifecycle.claim_stage(created.stage_id, WORKER, token=uuid4()) is None
    run = run_of(created)
    assert run.status == "running"
    assert run.waiting_on is not None
    assert run.waiting_on.kind == "retry"


def test_the_sixth_lease_lost_fails_the_stage() -> None:
    created = create()
    for _ in range(6):
        claim(created)
        expire_leases()
        lifecycle.rescue_expired_leases()
    run = run_of(created)
    assert run.error is not None
    assert (run.status, run.error.code) == ("failed", "worker_lost")
    assert types(run.id).count("stage.rescued") == 5


def test_a_release_costs_nothing_and_is_due_at_once() -> None:
    created = create()
    assert lifecycle.release_stage_if_held(claim(created))
    assert counters(created.stage_id) == (1, 0, 0, 1)
    claim(created)


def test_a_canceled_run_accepts_no_result() -> None:
    created = create()
    held = claim(created)
    assert lifecycle.cancel_run_if_open(created.run.id, actor=Actor("ann"))
    assert not lifecycle.cancel_run_if_open(created.run.id, actor=Actor("ann"))
    assert lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=uuid4()) is None
    assert run_of(created).status == "canceled"
    assert types(created.run.id).count("run.canceled") == 1


def test_a_completed_run_cannot_be_canceled() -> None:
    created = create("smoke")
    lifecycle.finish_stage_if_held(claim(created), TEXT, WORKER, next_token=None)
    with pytest.raises(Conflict):
        lifecycle.cancel_run_if_open(created.run.id, actor=Actor("ann"))


def approve(run_id: UUID, stage: str, digest: str) -> UUID | None:
    """Approve a draft; return the stage that is due because of it, if any."""
    due: list[UUID] = []
    with stage_due.connected(due.append):
        lifecycle.approve_stage_if_waiting(
            run_id, stage, artifact_sha256=digest, content=None, note=None, actor=Actor("ann")
        )
    return next(iter(due), None)


def test_a_stage_that_asks_for_approval_stops_the_run() -> None:
    created, _ = wait_for_approval()
    run = run_of(created)
    assert (run.status, run.stages[0].status) == ("waiting_approval", "waiting_approval")
    assert run.waiting_on is not None
    assert run.waiting_on.kind == "approval"


def test_auto_approve_skips_the_approvals() -> None:
    created = create("landing_page", auto_approve=True)
    finished = lifecycle.finish_stage_if_held(claim(created), TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None


def test_an_approval_is_bound_to_the_draft() -> None:
    created, digest = wait_for_approval()
    run_id = created.run.id
    with pytest.raises(DraftChanged) as refused:
        approve(run_id, "message", "0" * 64)
    assert refused.value.current_sha256 == digest
    assert approve(run_id, "message", digest) is not None
    with pytest.raises(Conflict):
        approve(run_id, "message", digest)
    with pytest.raises(NotFound):
        approve(run_id, "nothing", digest)


def test_an_edit_becomes_a_version_of_its_own() -> None:
    created, digest = wait_for_approval()
    lifecycle.approve_stage_if_waiting(
        created.run.id, "message", artifact_sha256=digest, content="# Edited", note=None, actor=Actor("ann")
    )
    assert queries.newest_artifacts(created.run.id)["message"].content == "# Edited"
    assert [artifact.provider for artifact in queries.list_artifacts(created.run.id)] == ["kimi", "human"]


def test_a_request_for_changes_queues_the_stage_with_the_feedback() -> None:
    created, digest = wait_for_approval()
    lifecycle.request_changes_if_waiting(
        created.run.id, "message", artifact_sha256=digest, feedback="shorter", actor=Actor("ann")
    )
    again = claim(created)
    assert (again.attempt, again.feedback) == (2, "shorter")


def test_of_many_decisions_at_once_one_has_effect() -> None:
    created, digest = wait_for_approval()

    def decide(number: int) -> bool:
        try:
            lifecycle.approve_stage_if_waiting(
                created.run.id, "message", artifact_sha256=digest, content=None, note=None, actor=Actor(str(number))
            )
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(decide, range(50))) == 1
    assert types(created.run.id).count("approval.granted") == 1


def test_a_retry_queues_a_failed_run_from_its_failed_stage() -> None:
    created = create()
    lifecycle.fail_attempt_if_held(claim(created), Failure("x", "y", permanent=True), jitter=0)
    assert run_of(created).status == "failed"
    due: list[UUID] = []
    with stage_due.connected(due.append):
        lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=Actor("ann"))
    assert due == [created.stage_id]
    assert run_of(created).status == "queued"
    claim(created)
    with pytest.raises(Conflict):
        lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=Actor("ann"))


def test_a_revoked_key_fails_one_stage_and_keeps_the_others_queued() -> None:
    created = [create() for _ in range(4)]
    held = [claim(run) for run in created[:2]]
    assert lifecycle.fail_attempt_if_held(held[0], REVOKED, jitter=0) == "failed"
    assert lifecycle.fail_attempt_if_held(held[1], REVOKED, jitter=0) == "retrying"
    # The second call was in flight when the key was revoked: its failure is excused and costs no budget.
    assert counters(held[1].stage_id) == (1, 0, 0, 0)
    assert lifecycle.claim_stage(created[2].stage_id, WORKER, token=uuid4()) is None
    with transaction():
        assert providers.resume("kimi")
    claim(created[2])


def test_an_outage_pauses_the_provider_and_one_probe_resumes_it() -> None:
    created = [create() for _ in range(8)]
    held = [claim(run) for run in created[:5]]
    for each in held:
        lifecycle.fail_attempt_if_held(each, OVERLOADED, jitter=0)
    assert lifecycle.claim_stage(created[5].stage_id, WORKER, token=uuid4()) is None
    end_pauses()
    probe = claim(created[5])
    assert lifecycle.claim_stage(created[6].stage_id, WORKER, token=uuid4()) is None
    assert lifecycle.fail_attempt_if_held(probe, OVERLOADED, jitter=0) == "retrying"
    assert counters(probe.stage_id) == (1, 0, 0, 0)
    end_pauses()
    lifecycle.finish_stage_if_held(claim(created[6]), TEXT, WORKER, next_token=None)
    claim(created[7])


def test_the_cap_holds_when_many_claim_at_once() -> None:
    capped = Claimant(uuid4(), "kimi", cap=3)
    created = [create() for _ in range(12)]
    with ThreadPoolExecutor(12) as threads:
        won = list(threads.map(lambda run: lifecycle.claim_stage(run.stage_id, capped, token=uuid4()), created))
    assert sum(found is not None for found in won) == 3
    # A dead worker's calls count until its leases are rescued, and no longer.
    expire_leases()
    lifecycle.rescue_expired_leases()
    claim(created[0], capped)


def test_a_stage_of_a_paused_queue_cannot_be_claimed() -> None:
    created = create()
    with transaction():
        execute("UPDATE queues SET paused_at = now()")
    assert lifecycle.claim_stage(created.stage_id, WORKER, token=uuid4()) is None


def test_a_brand_that_does_not_exist_is_named_and_nothing_is_written() -> None:
    with pytest.raises(InvalidInput) as refused:
        lifecycle.create_run(NewRun(CATALOG.get("smoke"), "x", brand_id=uuid4()), actor=Actor("tests"))
    assert refused.value.pointer == "/brand_id"
    with transaction():
        assert rows("SELECT id FROM runs") == []


def _use_up_budgets() -> None:
    with transaction():
        execute("UPDATE stages SET failures = 3, rescues = 4, releases = 2")


def test_a_retry_resets_every_counter_but_the_number_of_claims() -> None:
    created = create()
    held = claim(created)
    _use_up_budgets()
    lifecycle.fail_attempt_if_held(held, Failure("x", "y", permanent=True), jitter=0)
    lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=Actor("ann"))
    assert counters(created.stage_id) == (1, 0, 0, 0)


def test_a_request_for_changes_resets_every_counter_but_the_number_of_claims() -> None:
    created, digest = wait_for_approval()
    _use_up_budgets()
    lifecycle.request_changes_if_waiting(
        created.run.id, "message", artifact_sha256=digest, feedback="shorter", actor=Actor("ann")
    )
    assert counters(created.stage_id) == (1, 0, 0, 0)
