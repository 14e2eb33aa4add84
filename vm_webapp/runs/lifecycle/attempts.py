"""How an attempt ends that has no text: it fails or releases its stage, if it still holds the lease token."""

from __future__ import annotations

from typing import Literal

from peewee import SQL, fn

from vm_webapp.db.compiled import NOW, SECOND, compiled, param
from vm_webapp.db.models import Stage
from vm_webapp.db.pool import Row, execute, jsonb, row, transaction
from vm_webapp.metrics import RELEASES, count_retry
from vm_webapp.runs import admission, artifacts, providers, statements
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.claims import ACTOR, Claim, UnreadableClaim
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
from vm_webapp.runs.states import Failure, RetryAt, decide_failure
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
            signal_current_state(claim)
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
            signal_current_state(claim)
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


def signal_current_state(claim: Claim | UnreadableClaim) -> None:
    """Raise the signals that fit the run's current state, because this attempt may have ended the stage itself.

    If the result of that COMMIT never arrived, its signals never fired. A signal that is raised twice is harmless.
    """
    # A failure or a release leaves no token behind, so their repetition cannot know whether the first try succeeded.
    run_changed.raise_after_commit(claim.run_id)
    found = row(_DUE_STAGE, run_id=claim.run_id)
    if found:
        stage_due.raise_after_commit(found["id"])


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
