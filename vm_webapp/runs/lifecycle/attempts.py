"""How an attempt at a stage ends: finished, failed or handed back, by whoever still holds its token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from peewee import SQL, fn

from vm_webapp.db.compiled import NOW, SECOND, compiled, param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import Row, execute, jsonb, row, transaction
from vm_webapp.llm.base import Completion
from vm_webapp.runs import admission, artifacts, providers
from vm_webapp.runs.artifacts import NewArtifact
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.claims import (
    ACTOR,
    Claim,
    Claimant,
    ClaimedRun,
    claim_locked_stage,
    make_claim,
    started_event,
)
from vm_webapp.runs.lifecycle.steps import FENCED, LEASE_CLEARED, REQUEUED, advance_run, error_json, fail_run, lock_run
from vm_webapp.runs.signals import run_changed, stage_due
from vm_webapp.runs.states import Failure, RetryAt, decide_failure

_ENDED = {Stage.feedback: None, Stage.error: None, **LEASE_CLEARED}
_COMPLETE = compiled(Stage.update({Stage.status: "completed", Stage.finished_at: NOW, **_ENDED}).where(FENCED))
_WAIT_FOR_APPROVAL = compiled(
    Stage.update({Stage.status: "waiting_approval", Stage.finished_at: None, **_ENDED}).where(FENCED)
)
_RUN_WAITS = compiled(Run.update({Run.status: "waiting_approval"}).where(Run.id == param("id")))
_RELEASE = compiled(
    Stage.update({**REQUEUED, Stage.available_at: NOW, Stage.releases: Stage.releases + 1}).where(FENCED)
)
_LOCK_HELD = compiled(Stage.select(Stage.failures).where(FENCED).for_update())
_REQUEUE = compiled(
    Stage.update(
        {
            **REQUEUED,
            Stage.failures: Stage.failures + param("counted"),
            Stage.error: param("error"),
            Stage.available_at: NOW + param("delay") * SECOND,
        }
    )
    .where(FENCED)
    .returning(Stage.available_at)
)
_GIVE_UP = compiled(
    Stage.update(
        {
            Stage.status: "failed",
            Stage.failures: Stage.failures + 1,
            Stage.error: param("error"),
            Stage.finished_at: NOW,
            **LEASE_CLEARED,
        }
    ).where(FENCED)
)
_CLAIMED_UNDER = compiled(
    Stage.select(
        Stage.id,
        Stage.key,
        Stage.attempt,
        Stage.feedback,
        Stage.provider,
        NOW.alias("claimed_at"),
        fn.date_part("epoch", Stage.deadline_at - NOW).alias("seconds_left"),
    ).where(Stage.run == param("run_id"), Stage.lease_token == param("token"))
)
_S = Stage.alias("s")
_DUE_STAGE = compiled(_S.select(_S.id).where(_S.run == param("run_id"), SQL(admission.due("s"))))


@dataclass(frozen=True, slots=True)
class Finished:
    """How an attempt ended.

    Attributes:
        next: the run's next stage, already claimed, or None.
        version: the version that was stored, or None where nothing was.
    """

    next: Claim | None = None
    version: int | None = None


def finish_stage_if_held(
    claim: Claim, completion: Completion, claimant: Claimant, *, next_token: UUID | None
) -> Finished | None:
    """Store an attempt's document and move the run on, if the attempt still holds its stage.

    1. Lock the run; end the attempt (running → completed or waiting_approval), guarded by the token.
    2. Store the document as the next version.
    3. Queue the next stage or complete the run; claim the next stage under ``next_token``.

    Called again after a COMMIT whose outcome is unknown, it recognises its own work.

    Args:
        claim: the attempt.
        completion: what it produced.
        claimant: who carries on.
        next_token: token for the run's next stage, None to leave that to others. The same at every repetition.

    Returns:
        What comes next, or None when the stage is no longer ours: nothing was written.
    """
    with transaction():
        run = lock_run(claim.run_id)
        waits = claim.spec.requires_approval and not run["auto_approve"]
        if not _end_attempt(claim, "waiting_approval" if waits else "completed"):
            return _own_earlier_finish(claim, next_token)
        stored = artifacts.add_version(claim.run_id, claim.stage_id, _new_artifact(claim, completion))
        described = {"version": stored.version, "sha256": stored.sha256, "truncated": completion.truncated}
        if waits:
            execute(_RUN_WAITS, id=claim.run_id)
            append_events(claim.run_id, ACTOR, NewEvent("approval.requested", claim.spec.key, described))
            _record_success(claim)
            return Finished(version=stored.version)
        if claim.spec.requires_approval:
            described["auto_approved"] = True
        due, events = advance_run(claim.run_id)
        _record_success(claim)
        following = None
        if due and next_token:
            following = claim_locked_stage(_run_of(claim), due, claimant, next_token)
        if following:
            events.append(started_event(following))
        elif due:
            stage_due.raise_after_commit(due["id"])
        append_events(claim.run_id, ACTOR, NewEvent("stage.completed", claim.spec.key, described), *events)
        return Finished(following, stored.version)


def fail_attempt_if_held(claim: Claim, failure: Failure, *, jitter: float) -> Literal["retrying", "failed"] | None:
    """Record a failed attempt, if it still holds its stage.

    Args:
        claim: the attempt.
        failure: why it failed.
        jitter: random number in [0, 1) for the backoff.

    Returns:
        Whether the stage will be tried again; None when it is no longer ours.
    """
    with transaction():
        lock_run(claim.run_id)
        stage = _held(claim)
        if stage is None:
            _tell_what_stands(claim)
            return None
        effect = providers.Effect(excused=False)
        if claim.provider:
            effect = providers.record_failure(claim.provider, failure, token=claim.token)
        if effect.excused:
            _requeue(claim, failure, effect.delay_seconds, counted=False)
            return "retrying"
        decision = decide_failure(
            failure, failures_before=stage["failures"], policy=claim.workflow.retry, jitter=jitter
        )
        if isinstance(decision, RetryAt):
            _requeue(claim, failure, decision.delay_seconds, counted=True)
            return "retrying"
        _give_up(claim, failure)
        return "failed"


def release_stage_if_held(claim: Claim) -> bool:
    """Hand a stage back because this worker is shutting down; it is due at once and nothing is counted against it.

    Returns:
        False when the stage is no longer ours to hand back: nothing was written.
    """
    with transaction():
        lock_run(claim.run_id)
        if not execute(_RELEASE, id=claim.stage_id, token=claim.token):
            _tell_what_stands(claim)
            return False
        append_events(claim.run_id, ACTOR, NewEvent("stage.released", claim.spec.key, {"attempt": claim.attempt}))
        stage_due.raise_after_commit(claim.stage_id)
        return True


def _record_success(claim: Claim) -> None:
    if claim.provider:
        providers.record_success(claim.provider)


def _own_earlier_finish(claim: Claim, next_token: UUID | None) -> Finished | None:
    """Tell a stage that was lost from one that this very attempt finished in a COMMIT whose answer was lost."""
    if not artifacts.wrote_version(claim.token):
        return None
    _tell_what_stands(claim)
    return Finished(_claimed_under(next_token, claim) if next_token else None)


def _claimed_under(token: UUID, claim: Claim) -> Claim | None:
    """Return the claim of the run's next stage that was made under this token, and still holds."""
    taken = row(_CLAIMED_UNDER, run_id=claim.run_id, token=token)
    return make_claim(_run_of(claim), taken, token) if taken else None


def _tell_what_stands(claim: Claim) -> None:
    """Tell of a run whose stage this attempt no longer holds: perhaps it has ended it itself.

    Where the answer of that COMMIT was lost, nobody was told what it changed. Telling it twice is harmless.
    """
    run_changed.raise_after_commit(claim.run_id)
    found = row(_DUE_STAGE, run_id=claim.run_id)
    if found:
        stage_due.raise_after_commit(found["id"])


def _run_of(claim: Claim) -> ClaimedRun:
    return ClaimedRun(claim.run_id, claim.workflow, claim.request, claim.snapshot)


def _end_attempt(claim: Claim, status: Literal["completed", "waiting_approval"]) -> bool:
    statement = _COMPLETE if status == "completed" else _WAIT_FOR_APPROVAL
    return bool(execute(statement, id=claim.stage_id, token=claim.token))


def _held(claim: Claim) -> Row | None:
    return row(_LOCK_HELD, id=claim.stage_id, token=claim.token)


def _requeue(claim: Claim, failure: Failure, delay_seconds: float, *, counted: bool) -> None:
    queued = row(
        _REQUEUE,
        id=claim.stage_id,
        token=claim.token,
        counted=int(counted),
        error=jsonb(error_json(failure)),
        delay=delay_seconds,
    )
    assert queued is not None
    told = error_json(failure) | {
        "attempt": claim.attempt,
        "retry_at": queued["available_at"].isoformat(),
        "delay_seconds": round(delay_seconds, 3),
        "counted": counted,
    }
    append_events(claim.run_id, ACTOR, NewEvent("stage.retry_scheduled", claim.spec.key, told))


def _give_up(claim: Claim, failure: Failure) -> None:
    execute(_GIVE_UP, id=claim.stage_id, token=claim.token, error=jsonb(error_json(failure)))
    append_events(claim.run_id, ACTOR, *fail_run(claim.run_id, claim.spec.key, failure))


def _new_artifact(claim: Claim, completion: Completion) -> NewArtifact:
    return NewArtifact(
        name=claim.spec.artifact_name,
        content=completion.text,
        provider=completion.provider,
        model=completion.model,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        truncated=completion.truncated,
        attempt_token=claim.token,
    )
