"""Attempts at stages, and the ways in which they end."""

from __future__ import annotations

from uuid import UUID, uuid4

from tests.support.runs import CreatedRun, create, read
from vm_webapp.access.actor import Actor
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant
from vm_webapp.runs.states import Failure

WORKER = Claimant(uuid4(), "kimi")  # without a cap, so that a healthy provider's row is not locked
TEXT = Completion("# A document", "kimi")
OVERLOADED = Failure("llm_overloaded", "HTTP 503", permanent=False, overload=True)
REFUSED = Failure("llm_refused", "HTTP 400", permanent=True)


def claim(stage_id: UUID, claimant: Claimant = WORKER) -> Claim | None:
    """Claim a stage; return None if it cannot be claimed."""
    return lifecycle.claim_stage(stage_id, claimant, token=uuid4())


def claimed(stage_id: UUID, claimant: Claimant = WORKER) -> Claim:
    """Claim a stage, which must be possible."""
    held = claim(stage_id, claimant)
    assert held is not None
    return held


def fail(held: Claim, failure: Failure = OVERLOADED) -> str | None:
    """Fail an attempt; return whether its stage is retried."""
    return lifecycle.fail_attempt_if_held(held, failure, jitter=0)


def succeed(held: Claim) -> None:
    """Finish an attempt."""
    assert lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=None)


def cancel(held: Claim) -> None:
    """Cancel the run of an attempt."""
    lifecycle.cancel_run_if_open(held.run_id, actor=Actor("ann"))


def release(held: Claim) -> None:
    """Release a stage."""
    assert lifecycle.release_stage_if_held(held)


def be_refused(held: Claim) -> None:
    """Fail an attempt for a reason that is not the provider's."""
    assert fail(held, REFUSED) == "failed"


def wait_for_approval() -> tuple[CreatedRun, str]:
    """Return a run whose first draft waits for a person, and the draft's digest."""
    created = create("landing_page")
    assert lifecycle.finish_stage_if_held(claimed(created.stage_id), TEXT, WORKER, next_token=uuid4())
    (draft,) = read("SELECT sha256 FROM artifacts WHERE run_id = %(id)s", id=created.run.id)
    return created, draft["sha256"]


def complete(held: Claim, worker: Claimant = WORKER) -> None:
    """Finish an attempt and every later stage of its run."""
    following: Claim | None = held
    while following is not None:
        finished = lifecycle.finish_stage_if_held(following, TEXT, worker, next_token=uuid4())
        assert finished is not None
        following = finished.next
