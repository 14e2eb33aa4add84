"""What each transition counts, once and after its commit."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.db.attempts import wait_for_approval
from tests.db.stages import expire_leases, make_due
from tests.support.actors import OPERATOR
from tests.support.runs import CreatedRun, create, read
from tests.support.work import WORKER, claim_next
from vm_webapp.db.pool import transaction
from vm_webapp.llm.base import Completion
from vm_webapp.metrics import REGISTRY
from vm_webapp.runs import lifecycle
from vm_webapp.runs.states import MAX_RESCUES, Failure

pytestmark = pytest.mark.usefixtures("database")
TEXT = Completion("# A document", "kimi")
OVERLOADED = Failure("llm_overloaded", "HTTP 503", permanent=False)
REFUSED = Failure("llm_bad_request", "HTTP 400", permanent=True)
Counted = dict[str, float]
NAMES = ("vm_stages_finished", "vm_runs_finished", "vm_retries", "vm_rescues", "vm_releases", "vm_stage_review_seconds")


def counts() -> Counted:
    """Return every counter of the lifecycle: name and labels → number."""
    return {
        f"{metric.name} {' '.join(sample.labels.values())}".strip(): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if metric.name in NAMES and sample.name.endswith(("_total", "_count"))
    }


@pytest.fixture
def counted() -> Callable[[], Counted]:
    """Return what was counted since the test began."""
    before = counts()
    return lambda: {name: value - before.get(name, 0) for name, value in counts().items() if value != before.get(name)}


@pytest.fixture
def created() -> CreatedRun:
    """A run of two stages, the first of which is due."""
    return create()


def test_a_run_that_is_completed(created: CreatedRun, counted: Callable[[], Counted]) -> None:
    for _ in range(2):
        claimed = claim_next(created.run.id)
        assert claimed.waited_seconds is not None
        assert 0 <= claimed.waited_seconds < 60
        assert lifecycle.finish_stage_if_held(claimed, TEXT, WORKER, next_token=None)
    assert lifecycle.finish_stage_if_held(claimed, TEXT, WORKER, next_token=None), "its own work, seen again"
    assert counted() == {
        "vm_stages_finished content_calendar topic_map completed": 1,
        "vm_stages_finished content_calendar calendar completed": 1,
        "vm_runs_finished content_calendar completed": 1,
    }


def test_a_stage_that_the_same_worker_goes_on_with_has_not_waited(created: CreatedRun) -> None:
    finished = lifecycle.finish_stage_if_held(claim_next(created.run.id), TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert finished.next.waited_seconds == 0


def test_attempts_that_fail(created: CreatedRun, counted: Callable[[], Counted]) -> None:
    assert lifecycle.fail_attempt_if_held(claim_next(created.run.id), OVERLOADED, jitter=0) == "retrying"
    make_due()
    lost = claim_next(created.run.id)
    assert lifecycle.fail_attempt_if_held(lost, REFUSED, jitter=0) == "failed"
    assert lifecycle.fail_attempt_if_held(lost, REFUSED, jitter=0) is None
    assert counted() == {
        "vm_retries llm_overloaded": 1,
        "vm_stages_finished content_calendar topic_map failed": 1,
        "vm_runs_finished content_calendar failed": 1,
    }


def test_leases_that_are_lost_and_given_back(created: CreatedRun, counted: Callable[[], Counted]) -> None:
    assert lifecycle.release_stage_if_held(claim_next(created.run.id))
    for _ in range(MAX_RESCUES + 1):
        claim_next(created.run.id)
        expire_leases()
        lifecycle.rescue_expired_leases()
    assert counted() == {
        "vm_releases": 1,
        "vm_rescues": MAX_RESCUES + 1,
        "vm_stages_finished content_calendar topic_map failed": 1,
        "vm_runs_finished content_calendar failed": 1,
    }


def test_two_equal_stages_that_one_transaction_fails_are_two(counted: Callable[[], Counted]) -> None:
    runs = [create(), create()]
    for _ in range(MAX_RESCUES + 1):
        for each in runs:
            claim_next(each.run.id)
        expire_leases()
        lifecycle.rescue_expired_leases()
    assert counted()["vm_runs_finished content_calendar failed"] == 2


def test_a_review(counted: Callable[[], Counted]) -> None:
    created, draft = wait_for_approval()
    (stage,) = read("SELECT key FROM stages WHERE id = %(id)s", id=created.stage_id)
    assert counted() == {}, "a draft has not ended its stage"
    run, key = created.run.id, stage["key"]
    lifecycle.request_changes_if_waiting(run, key, artifact_sha256=draft, feedback="warmer", actor=OPERATOR)
    assert counted() == {f"vm_stage_review_seconds landing_page {key}": 1}
    assert lifecycle.finish_stage_if_held(claim_next(run), TEXT, WORKER, next_token=None)
    lifecycle.approve_stage_if_waiting(run, key, artifact_sha256=draft, content="# Edited", note=None, actor=OPERATOR)
    assert counted() == {
        f"vm_stage_review_seconds landing_page {key}": 2,
        f"vm_stages_finished landing_page {key} completed": 1,
    }


def test_a_run_that_is_canceled(created: CreatedRun, counted: Callable[[], Counted]) -> None:
    assert lifecycle.cancel_run_if_open(created.run.id, actor=OPERATOR)
    assert not lifecycle.cancel_run_if_open(created.run.id, actor=OPERATOR)
    assert counted() == {"vm_runs_finished content_calendar canceled": 1}


def test_what_is_rolled_back_is_not_counted(created: CreatedRun, counted: Callable[[], Counted]) -> None:
    def cancel_and_fail() -> None:
        with transaction():
            lifecycle.cancel_run_if_open(created.run.id, actor=OPERATOR)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cancel_and_fail()
    assert counted() == {}
