"""How an attempt at a stage ends: it finishes, fails or releases the stage, if it still holds the lease token."""

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
    RunOfStage,
    claim_locked_stage,
    make_claim,
    started_event,
)
from vm_webapp.runs.lifecycle.steps import (
    FENCED,
    LEASE_CLEARED,
    REQUEUED,
    advance_run,
    error_json,
    fail_run,
    failed_attempt_json,
    lock_run,
)
from vm_webapp.runs.signals import run_changed, stage_due
from vm_webapp.runs.states import Failure, RetryAt, decide_failure

_ENDED = {Stage.feedback: None, Stage.error: None, **LEASE_CLEARED}
_COMPLETE = compiled(Stage.update({Stage.status: "completed", Stage.finished_at: NOW, **_ENDED}).where(FENCED))
_WAIT_FOR_APPROVAL = compiled(
    Stage.update({Stage.status: "waiting_approval", Stage.finished_at: None, **_ENDED}).where(FENCED)
)
# No guard on the run's status: its row is locked, and _WAIT_FOR_APPROVAL has just changed a running stage of it.
_RUN_WAITS = compiled(Run.update({Run.status: "waiting_approval"}).where(Run.id == param("id")))
_RELEASE = compiled(
    Stage.update({**REQUEUED, Stage.available_at: NOW, Stage.releases: Stage.releases + 1}).where(FENCED)
)
_MOST_TOKENS = 2**31 - 1  # the columns are ``integer``; a sum beyond it must not keep a failure from being stored
_TOKENS_SPENT = {
    column: fn.least(_MOST_TOKENS, column.cast("bigint") + param(name))
    for column, name in (
        (Stage.failed_prompt_tokens, "prompt_tokens"),
        (Stage.failed_completion_tokens, "completion_tokens"),
    )
}
# A lock, and not only a read: the provider's row is locked next, and stages come before providers in the order of
# locks.
_LOCK_HELD = compiled(Stage.select(Stage.failures).where(FENCED).for_update())
# The delay is added to the database's clock, which is the clock that the queue compares with; workers' clocks differ.
_REQUEUE = compiled(
    Stage.update(
        {
            **REQUEUED,
            Stage.failures: Stage.failures + param("counted"),
            Stage.error: param("error"),
            Stage.available_at: NOW + param("delay") * SECOND,
            **_TOKENS_SPENT,
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
            **_TOKENS_SPENT,
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
# ``admission.due`` is SQL text that names its row by an alias, so the query needs one too.
_S = Stage.alias("s")
_DUE_STAGE = compiled(_S.select(_S.id).where(_S.run == param("run_id"), SQL(admission.due("s"))))


@dataclass(frozen=True, slots=True)
class Finished:
    """How an attempt ended.

    Attributes:
        next: the claim of the run's next stage, or None where this worker does not run it.
        version: the version of the artifact that this call stored, or None where an earlier call had stored it.
    """

    next: Claim | None = None
    version: int | None = None


def finish_stage_if_held(
    claim: Claim, completion: Completion, claimant: Claimant, *, next_token: UUID | None
) -> Finished | None:
    """Store an attempt's artifact and advance its run, if the attempt still holds its stage.

    1. Lock the run; end the attempt (running → completed or waiting_approval), guarded by the token.
    2. Store the artifact as the next version.
    3. Queue the next stage or complete the run; claim the next stage under ``next_token``.

    Called again after a COMMIT whose outcome is unknown, it recognises its own work.

    Args:
        claim: the attempt.
        completion: the text that the model wrote.
        claimant: the worker that claims the run's next stage.
        next_token: token for the run's next stage, None to leave that to others. The same at every repetition.

    Returns:
        How the attempt ended, or None when it no longer holds the stage: nothing was written.
    """
    with transaction():
        run = lock_run(claim.run_id)
        waits = claim.spec.requires_approval and not run["auto_approve"]
        # Guarded by the token, never by the lease's end: a lone worker may finish after its lease expired, as long as
        # no other worker has taken the stage over.
        if not _end_attempt(claim, "waiting_approval" if waits else "completed"):
            return _own_earlier_finish(claim, next_token)
        stored = artifacts.add_version(claim.run_id, claim.stage_id, _new_artifact(claim, completion))
        data = {"version": stored.version, "sha256": stored.sha256, "truncated": completion.truncated}
        if completion.note:
            data["note"] = completion.note
        if waits:
            execute(_RUN_WAITS, id=claim.run_id)
            append_events(claim.run_id, ACTOR, NewEvent("approval.requested", claim.spec.key, data))
            _record_success(claim)  # last, because it may lock the provider's row
            return Finished(version=stored.version)
        if claim.spec.requires_approval:
            data["auto_approved"] = True
        due, events = advance_run(claim.run_id)
        # After advance_run, which locks the next stage: stages come before providers in the order of locks. Before the
        # next claim, which a pause that this success ends would otherwise refuse.
        _record_success(claim)
        following = None
        if due and next_token:
            # The UPDATE in advance_run has locked this row, so no other worker can claim it in between.
            following = claim_locked_stage(_run_of(claim), due, claimant, next_token)
        if following:
            events.append(started_event(following))
        elif due:
            stage_due.raise_after_commit(due["id"])
        # One call, so that one INSERT numbers the events in this order: completed, queued, started.
        append_events(claim.run_id, ACTOR, NewEvent("stage.completed", claim.spec.key, data), *events)
        return Finished(following, stored.version)


def fail_attempt_if_held(claim: Claim, failure: Failure, *, jitter: float) -> Literal["retrying", "failed"] | None:
    """Record a failed attempt, if it still holds its stage.

    Args:
        claim: the attempt.
        failure: why it failed.
        jitter: random number in [0, 1) for the backoff.

    Returns:
        Whether the stage will be tried again; None when the attempt no longer holds it.
    """
    with transaction():
        lock_run(claim.run_id)
        stage = _held(claim)
        if stage is None:
            _signal_current_state(claim)
            return None
        # The provider's failures are recorded first: a failure that its outage excuses must not use up the stage's
        # retry budget.
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
    """Release a stage because this worker is shutting down; it is due at once and uses up no budget.

    Returns:
        False when the attempt no longer holds the stage: nothing was written.
    """
    with transaction():
        lock_run(claim.run_id)
        if not execute(_RELEASE, id=claim.stage_id, token=claim.token):
            _signal_current_state(claim)
            return False
        append_events(claim.run_id, ACTOR, NewEvent("stage.released", claim.spec.key, {"attempt": claim.attempt}))
        stage_due.raise_after_commit(claim.stage_id)
        return True


def _record_success(claim: Claim) -> None:
    if claim.provider:
        providers.record_success(claim.provider)


def _own_earlier_finish(claim: Claim, next_token: UUID | None) -> Finished | None:
    """Distinguish a stage that another worker took (None) from one that this attempt finished in an earlier COMMIT."""
    # The stage cannot show it, because its token is cleared when the attempt ends; the artifact keeps the token.
    if not artifacts.wrote_version(claim.token):
        return None
    _signal_current_state(claim)
    return Finished(_claimed_under(next_token, claim) if next_token else None)


def _claimed_under(token: UUID, claim: Claim) -> Claim | None:
    """Return the claim of the run's next stage that was made under this token, if it still holds the stage."""
    # The claim may have been rescued while the database was out of reach: then its token is gone, and nothing is found.
    taken = row(_CLAIMED_UNDER, run_id=claim.run_id, token=token)
    return make_claim(_run_of(claim), taken, token) if taken else None


def _signal_current_state(claim: Claim) -> None:
    """Raise the signals that fit the run's current state, because this attempt may have ended the stage itself.

    If the result of that COMMIT never arrived, its signals never fired. A signal that is raised twice is harmless.
    """
    # A failure or a release leaves no token behind, so their repetition cannot know whether the first try succeeded.
    run_changed.raise_after_commit(claim.run_id)
    found = row(_DUE_STAGE, run_id=claim.run_id)
    if found:
        stage_due.raise_after_commit(found["id"])


def _run_of(claim: Claim) -> RunOfStage:
    return RunOfStage(claim.run_id, claim.workflow, claim.request, claim.snapshot)


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
        prompt_tokens=failure.prompt_tokens,
        completion_tokens=failure.completion_tokens,
    )
    assert queued is not None  # the caller has locked the row under this token
    data = failed_attempt_json(failure) | {
        "attempt": claim.attempt,
        "retry_at": queued["available_at"].isoformat(),
        "delay_seconds": round(delay_seconds, 3),
        "counted": counted,
    }
    append_events(claim.run_id, ACTOR, NewEvent("stage.retry_scheduled", claim.spec.key, data))


def _give_up(claim: Claim, failure: Failure) -> None:
    execute(
        _GIVE_UP,
        id=claim.stage_id,
        token=claim.token,
        error=jsonb(error_json(failure)),
        prompt_tokens=failure.prompt_tokens,
        completion_tokens=failure.completion_tokens,
    )
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
        note=completion.note,
        attempt_token=claim.token,
    )
