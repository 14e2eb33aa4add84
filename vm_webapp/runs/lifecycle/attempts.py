"""How an attempt at a stage ends: finished, failed or handed back, by whoever still holds its token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from vm_webapp.db.pool import Row, execute, json, row, transaction
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
            execute("UPDATE runs SET status = 'waiting_approval' WHERE id = %(id)s", id=claim.run_id)
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
        released = execute(
            f"""
            UPDATE stages SET {REQUEUED}, available_at = clock_timestamp(), releases = releases + 1
             WHERE {FENCED}
            """,
            id=claim.stage_id,
            token=claim.token,
        )
        if not released:
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
    taken = row(
        """
        SELECT id, key, attempt, feedback, provider, clock_timestamp() AS claimed_at,
               extract(epoch FROM deadline_at - clock_timestamp())::float8 AS seconds_left
          FROM stages WHERE run_id = %(run_id)s AND lease_token = %(token)s
        """,
        run_id=claim.run_id,
        token=token,
    )
    return make_claim(_run_of(claim), taken, token) if taken else None


def _tell_what_stands(claim: Claim) -> None:
    """Tell of a run whose stage this attempt no longer holds: perhaps it has ended it itself.

    Where the answer of that COMMIT was lost, nobody was told what it changed. Telling it twice is harmless.
    """
    run_changed.raise_after_commit(claim.run_id)
    found = row(f"SELECT id FROM stages WHERE run_id = %(id)s AND {admission.due()}", id=claim.run_id)
    if found:
        stage_due.raise_after_commit(found["id"])


def _run_of(claim: Claim) -> ClaimedRun:
    return ClaimedRun(claim.run_id, claim.workflow, claim.request, claim.snapshot)


def _end_attempt(claim: Claim, status: Literal["completed", "waiting_approval"]) -> bool:
    return bool(
        execute(
            f"""
            UPDATE stages
               SET status = %(status)s, feedback = NULL, error = NULL,
                   finished_at = CASE WHEN %(status)s = 'completed' THEN clock_timestamp() END,
                   {LEASE_CLEARED}
             WHERE {FENCED}
            """,
            id=claim.stage_id,
            token=claim.token,
            status=status,
        )
    )


def _held(claim: Claim) -> Row | None:
    return row(
        f"SELECT failures FROM stages WHERE {FENCED} FOR UPDATE",
        id=claim.stage_id,
        token=claim.token,
    )


def _requeue(claim: Claim, failure: Failure, delay_seconds: float, *, counted: bool) -> None:
    queued = row(
        f"""
        UPDATE stages
           SET {REQUEUED}, failures = failures + %(counted)s, error = %(error)s,
               available_at = clock_timestamp() + %(delay)s * interval '1 second'
         WHERE {FENCED}
        RETURNING available_at
        """,
        id=claim.stage_id,
        token=claim.token,
        counted=int(counted),
        error=json(error_json(failure)),
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
    execute(
        f"""
        UPDATE stages
           SET status = 'failed', failures = failures + 1, error = %(error)s, finished_at = clock_timestamp(),
               {LEASE_CLEARED}
         WHERE {FENCED}
        """,
        id=claim.stage_id,
        token=claim.token,
        error=json(error_json(failure)),
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
        attempt_token=claim.token,
    )
