"""How an attempt at a stage ends: it finishes, fails or releases the stage, if it still holds the lease token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from peewee import SQL, fn

from vm_webapp.db.compiled import NOW, SECOND, compiled, param
from vm_webapp.db.models import Stage
from vm_webapp.db.pool import Row, autocommit, execute, jsonb, row, transaction
from vm_webapp.llm.base import Completion
from vm_webapp.metrics import RELEASES, count_retry, count_run, count_stage
from vm_webapp.runs import admission, artifacts, providers, statements
from vm_webapp.runs.artifacts import NewArtifact
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.budgets import fail_run_if_budget_spent
from vm_webapp.runs.lifecycle.claims import (
    ACTOR,
    Claim,
    Claimant,
    RunOfStage,
    UnreadableClaim,
    claim_stage,
    make_claim,
)
from vm_webapp.runs.lifecycle.steps import (
    FENCED,
    LEASE_CLEARED,
    REQUEUED,
    count_after_commit,
    error_json,
    fail_run,
    failed_attempt_json,
    lock_run,
    signal_room,
)
from vm_webapp.runs.signals import run_changed, stage_due
from vm_webapp.runs.states import LEASE_SECONDS, Failure, RetryAt, decide_failure
from vm_webapp.usage.calls import CallUsage, values_of

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
# ``admission.due`` is SQL text that names its row by an alias, so the query needs one too.
_S = Stage.alias("s")
_DUE_STAGE = compiled(_S.select(_S.id).where(_S.run == param("run_id"), SQL(admission.due("s"))))
_CLAIMED_UNDER = compiled(
    Stage.select(
        Stage.id,
        Stage.key,
        Stage.attempt,
        Stage.feedback,
        Stage.provider,
        Stage.trace_context,
        NOW.alias("claimed_at"),
        fn.date_part("epoch", Stage.deadline_at - NOW).alias("seconds_left"),
    ).where(Stage.run == param("run_id"), Stage.lease_token == param("token"))
)


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
    claim: Claim, completion: Completion, claimant: Claimant, *, next_token: UUID | None, usage: CallUsage | None = None
) -> Finished | None:
    """Store an attempt's artifact and advance its run, if the attempt still holds its stage.

    One statement stores the artifact, ends the attempt, queues and claims the next stage or completes the run
    (``statements.finish_stage``).

    Called again after a COMMIT whose outcome is unknown, it recognises its own work.

    Args:
        claim: the attempt.
        completion: the text that the model wrote.
        claimant: the worker that claims the run's next stage.
        next_token: token for the run's next stage, None to leave that to others. The same at every repetition.
        usage: what its model call has used, None where no model was called.

    Returns:
        How the attempt ended, or None when it no longer holds the stage: nothing was written.
    """
    with autocommit():
        # Guarded by the token, never by the lease's end: a lone worker may finish after its lease expired, as long as
        # no other worker has taken the stage over.
        statement = statements.finish_stage(called=usage is not None, branded=claim.snapshot["brand"] is not None)
        done = row(statement, **_values(claim, completion, claimant, next_token), **values_of(usage))
        if done:
            run_changed.raise_after_commit(claim.run_id)
            if done["id"] is None and done["owner_is_limited"]:
                stage_due.raise_after_commit(claim.stage_id)
            if not done["waits"]:
                count_after_commit(_count_completed, claim, done["id"] is None)
    if done is None:
        return _own_earlier_finish(claim, next_token)
    if done["provider_has_failed"] and claim.provider:
        with transaction():
            providers.record_success(claim.provider)
    if done["status"] == "running" and next_token:
        return Finished(make_claim(_run_of(claim), done, next_token, waited_seconds=0.0), done["version"])
    if done["status"] == "queued":
        return Finished(_claim_next(claim, done, claimant, next_token), done["version"])
    return Finished(version=done["version"])


def _count_completed(claim: Claim, run_too: bool) -> None:
    count_stage(claim.workflow.name, claim.key, "completed")
    if run_too:
        count_run(claim.workflow.name, "completed")


def _values(claim: Claim, completion: Completion, claimant: Claimant, next_token: UUID | None) -> dict[str, Any]:
    """Return the values of ``statements.finish_stage``."""
    stored = artifacts.values_of(_new_artifact(claim, completion))
    ended = {"sha256": stored["sha256"], "truncated": completion.truncated}
    if completion.note:
        ended["note"] = completion.note
    stages = claim.workflow.stages
    at = stages.index(claim.spec) + 1
    following = stages[at] if at < len(stages) else None
    # With a cap, claims must wait for each other: then the next stage is queued here and claimed after.
    claims = following is not None and claimant.cap is None
    return {
        **stored,
        "written_by": completion.provider,  # ``provider`` is what the rules are about
        "stage_id": claim.stage_id,
        "token": claim.token,
        "requires_approval": claim.spec.requires_approval,
        "actor": ACTOR,
        "ended": jsonb(ended),
        "next_token": next_token if claims else None,
        "lease": LEASE_SECONDS,
        "timeout": following.timeout_seconds if following else 0,
        "worker": claimant.worker_id,
        "provider": claimant.provider,
        "cap": claimant.cap,
        "called": claim.provider,
    }


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


def _claim_next(claim: Claim, stage: Row, claimant: Claimant, token: UUID | None) -> Claim | None:
    """Claim the run's next stage, which has been queued; where that fails, hint that it is due.

    The run fails instead if its own budget is spent.
    """
    following = claim_stage(stage["id"], claimant, token=token) if token else None
    if following is None and not (stage["budgeted"] and fail_run_if_budget_spent(claim.run_id)):
        stage_due.raise_after_commit(stage["id"])
    return following


def _own_earlier_finish(claim: Claim, next_token: UUID | None) -> Finished | None:
    """Distinguish a stage that another worker took (None) from one that this attempt finished in an earlier COMMIT."""
    # The stage cannot show it, because its token is cleared when the attempt ends; the artifact keeps the token.
    with transaction(durable=False):
        if not artifacts.wrote_version(claim.stage_id, claim.token):
            return None
        _signal_current_state(claim)
        return Finished(_claimed_under(next_token, claim) if next_token else None)


def _claimed_under(token: UUID, claim: Claim) -> Claim | None:
    """Return the claim of the run's next stage that was made under this token, if it still holds the stage."""
    # The claim may have been rescued while the database was out of reach: then its token is gone, and nothing is found.
    taken = row(_CLAIMED_UNDER, run_id=claim.run_id, token=token)
    return make_claim(_run_of(claim), taken, token) if taken else None


def fail_attempt_if_held(
    claim: Claim, failure: Failure, *, jitter: float, usage: CallUsage | None = None
) -> Literal["retrying", "failed"] | None:
    """Record a failed attempt, if it still holds its stage.

    Args:
        claim: the attempt.
        failure: why it failed.
        jitter: random number in [0, 1) for the backoff.
        usage: what its model call has used, as far as that is known.

    Returns:
        Whether the stage will be tried again; None when the attempt no longer holds it.
    """
    with transaction():
        lock_run(claim.run_id)
        stage = _held(claim)
        if stage is None:
            _signal_current_state(claim)
            return None
        _record_call(claim, usage)
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


def release_stage_if_held(claim: Claim | UnreadableClaim, *, usage: CallUsage | None = None) -> bool:
    """Release a stage that this worker will not execute after all; it is due at once and uses up no retry.

    Args:
        claim: the attempt.
        usage: what the call that it abandoned has used, as far as that is known.

    Returns:
        False when the attempt no longer holds the stage: nothing was written.
    """
    with transaction():
        lock_run(claim.run_id)
        if not execute(_RELEASE, id=claim.stage_id, token=claim.token):
            _signal_current_state(claim)
            return False
        _record_call(claim, usage)
        append_events(claim.run_id, ACTOR, NewEvent("stage.released", claim.key, {"attempt": claim.attempt}))
        stage_due.raise_after_commit(claim.stage_id)
        count_after_commit(RELEASES.inc)
        return True


def record_abandoned_call(claim: Claim, usage: CallUsage) -> None:
    """Record the call of an attempt that has lost its stage, because its run was canceled or its lease had expired.

    It changes no state and is therefore not fenced: the call was paid for, whoever holds the stage now. Nothing happens
    where the run is deleted, or where the attempt has finished its stage, which recorded the call. A repetition counts
    the call twice.
    """
    with transaction():
        if not artifacts.wrote_version(claim.stage_id, claim.token):
            _record_call(claim, usage)


def _record_call(claim: Claim | UnreadableClaim, usage: CallUsage | None) -> None:
    if usage is not None:
        execute(statements.RECORD_CALL, stage_id=claim.stage_id, **values_of(usage))


def _signal_current_state(claim: Claim | UnreadableClaim) -> None:
    """Raise the signals that fit the run's current state, because this attempt may have ended the stage itself.

    If the result of that COMMIT never arrived, its signals never fired. A signal that is raised twice is harmless.
    """
    # A failure or a release leaves no token behind, so their repetition cannot know whether the first try succeeded.
    run_changed.raise_after_commit(claim.run_id)
    found = row(_DUE_STAGE, run_id=claim.run_id)
    if found:
        stage_due.raise_after_commit(found["id"])


def _run_of(claim: Claim) -> RunOfStage:
    return RunOfStage(claim.run_id, claim.workflow, claim.request, claim.request_id, claim.snapshot)


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
    count_after_commit(count_retry, failure.code)
    signal_room(claim.run_id)


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
