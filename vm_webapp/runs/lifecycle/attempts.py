"""An attempt at a stage: claimed with a fresh token, ended by whoever still holds that token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from vm_webapp.db.pool import Row, execute, json, row, transaction
from vm_webapp.llm.base import Completion
from vm_webapp.runs import artifacts, providers
from vm_webapp.runs.artifacts import NewArtifact
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.steps import advance_run, error_json, fail_run, lock_run
from vm_webapp.runs.states import LEASE_SECONDS, Failure, RetryAt, decide_failure
from vm_webapp.workflows.model import StageSpec, Workflow

ACTOR = "worker"


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims.

    Attributes:
        worker_id: the worker process.
        provider: name of the provider it calls for stages that need a model.
        cap: most calls of that provider in flight across all workers, None for no limit.
    """

    worker_id: UUID
    provider: str
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A stage that is ours until its lease ends, fenced by ``token``.

    Attributes:
        snapshot: the run's snapshot: workflow, brand and project.
        feedback: what a reviewer asked to change, or None.
        provider: the provider admitted for this attempt; None for a stage that needs no model.
        claimed_at: by the database's clock.
    """

    stage_id: UUID
    run_id: UUID
    token: UUID
    attempt: int
    spec: StageSpec
    workflow: Workflow
    request: str = field(repr=False)
    snapshot: Mapping[str, Any] = field(repr=False)
    feedback: str | None = field(repr=False)
    provider: str | None
    claimed_at: datetime = field(compare=False)

    @property
    def timeout_seconds(self) -> float:
        """How long the attempt may take, by the workflow."""
        return self.spec.timeout_seconds


@dataclass(frozen=True, slots=True)
class Finished:
    """How an attempt ended.

    Attributes:
        next: the run's next stage, already claimed, or None.
        due_stage_id: a stage that is due and was not claimed: somebody should be told.
        version: the version that was stored, or None where nothing was.
    """

    next: Claim | None = None
    due_stage_id: UUID | None = None
    version: int | None = None


def claim_stage(stage_id: UUID, claimant: Claimant, *, token: UUID) -> Claim | None:
    """Claim a due stage: queued → running, under a fresh token and lease.

    Args:
        stage_id: which stage.
        claimant: who claims.
        token: a token that no attempt ever had.

    Returns:
        The claim, or None when there is nothing to claim: unknown, not due, taken, the queue or the provider paused,
        the cap reached.
    """
    with transaction(durable=False):
        run = row(
            """
            SELECT r.id, r.status, r.request, r.snapshot
              FROM runs r JOIN stages s ON s.run_id = r.id
             WHERE s.id = %(stage_id)s AND s.status = 'queued'
               FOR NO KEY UPDATE OF r
            """,
            stage_id=stage_id,
        )
        return _claim(run, stage_id, claimant, token) if run else None


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
        if claim.provider:
            providers.record_success(claim.provider)
        described = {"version": stored.version, "sha256": stored.sha256, "truncated": completion.truncated}
        if waits:
            execute("UPDATE runs SET status = 'waiting_approval' WHERE id = %(id)s", id=claim.run_id)
            append_events(claim.run_id, ACTOR, NewEvent("approval.requested", claim.spec.key, described))
            return Finished(version=stored.version)
        if claim.spec.requires_approval:
            described["auto_approved"] = True
        due, events = advance_run(claim.run_id)
        append_events(claim.run_id, ACTOR, NewEvent("stage.completed", claim.spec.key, described), *events)
        following = _claim_following(claim, due, claimant, next_token)
        return Finished(following, None if following else due, stored.version)


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
    """Hand a stage back because this worker is shutting down; it is due at once and nothing is counted against it."""
    with transaction():
        lock_run(claim.run_id)
        released = execute(
            """
            UPDATE stages SET status = 'queued', available_at = clock_timestamp(), releases = releases + 1,
                              lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL, worker_id = NULL
             WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s
            """,
            id=claim.stage_id,
            token=claim.token,
        )
        if released:
            append_events(claim.run_id, ACTOR, NewEvent("stage.released", claim.spec.key, {"attempt": claim.attempt}))
        return bool(released)


def _claim(run: Row, stage_id: UUID, claimant: Claimant, token: UUID) -> Claim | None:
    """Claim a queued stage of a run whose row is locked."""
    stage = row("SELECT key, needs_model FROM stages WHERE id = %(id)s AND status = 'queued'", id=stage_id)
    if stage is None or _queue_is_paused():
        return None
    provider = claimant.provider if stage["needs_model"] else None
    if provider and providers.admit(provider, cap=claimant.cap, token=token) in ("paused", "full"):
        return None
    workflow = Workflow.from_snapshot(run["snapshot"]["workflow"])
    spec = workflow.stage(stage["key"])
    claimed = row(
        """
        UPDATE stages
           SET status = 'running', attempt = attempt + 1, lease_token = %(token)s,
               lease_expires_at = clock_timestamp() + %(lease)s * interval '1 second',
               deadline_at = clock_timestamp() + %(timeout)s * interval '1 second',
               started_at = coalesce(started_at, clock_timestamp()), worker_id = %(worker)s, provider = %(provider)s,
               error = NULL
         WHERE id = %(id)s AND status = 'queued' AND available_at <= clock_timestamp()
        RETURNING attempt, feedback, clock_timestamp() AS claimed_at
        """,
        id=stage_id,
        token=token,
        lease=LEASE_SECONDS,
        timeout=spec.timeout_seconds,
        worker=claimant.worker_id,
        provider=provider,
    )
    if claimed is None:
        return None
    events = [NewEvent("stage.started", spec.key, {"attempt": claimed["attempt"], "provider": provider})]
    if run["status"] == "queued":
        execute(
            """
            UPDATE runs SET status = 'running', started_at = coalesce(started_at, clock_timestamp())
             WHERE id = %(id)s AND status = 'queued'
            """,
            id=run["id"],
        )
        events.insert(0, NewEvent("run.started"))
    append_events(run["id"], ACTOR, *events)
    return Claim(
        stage_id=stage_id,
        run_id=run["id"],
        token=token,
        attempt=claimed["attempt"],
        spec=spec,
        workflow=workflow,
        request=run["request"],
        snapshot=run["snapshot"],
        feedback=claimed["feedback"],
        provider=provider,
        claimed_at=claimed["claimed_at"],
    )


def _queue_is_paused() -> bool:
    return row("SELECT 1 AS found FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL") is not None


def _claim_following(claim: Claim, due: UUID | None, claimant: Claimant, next_token: UUID | None) -> Claim | None:
    if due is None or next_token is None:
        return None
    run: Row = {
        "id": claim.run_id,
        "status": "running",
        "request": claim.request,
        "snapshot": claim.snapshot,
    }
    return _claim(run, due, claimant, next_token)


def _own_earlier_finish(claim: Claim, next_token: UUID | None) -> Finished | None:
    """Tell a stage that was lost from one that this very attempt finished in a COMMIT whose answer was lost."""
    if not artifacts.wrote_version(claim.token):
        return None
    if next_token is None:
        return Finished()
    taken = row(
        """
        SELECT s.id, s.key, s.attempt, s.feedback, s.provider, clock_timestamp() AS claimed_at FROM stages s
         WHERE s.run_id = %(run_id)s AND s.lease_token = %(token)s
        """,
        run_id=claim.run_id,
        token=next_token,
    )
    if not taken:
        return Finished()
    return Finished(
        Claim(
            stage_id=taken["id"],
            run_id=claim.run_id,
            token=next_token,
            attempt=taken["attempt"],
            spec=claim.workflow.stage(taken["key"]),
            workflow=claim.workflow,
            request=claim.request,
            snapshot=claim.snapshot,
            feedback=taken["feedback"],
            provider=taken["provider"],
            claimed_at=taken["claimed_at"],
        )
    )


def _end_attempt(claim: Claim, status: Literal["completed", "waiting_approval"]) -> bool:
    return bool(
        execute(
            """
            UPDATE stages
               SET status = %(status)s, feedback = NULL, error = NULL,
                   finished_at = CASE WHEN %(status)s = 'completed' THEN clock_timestamp() END,
                   lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL
             WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s
            """,
            id=claim.stage_id,
            token=claim.token,
            status=status,
        )
    )


def _held(claim: Claim) -> Row | None:
    return row(
        "SELECT failures FROM stages WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s FOR UPDATE",
        id=claim.stage_id,
        token=claim.token,
    )


def _requeue(claim: Claim, failure: Failure, delay_seconds: float, *, counted: bool) -> None:
    queued = row(
        """
        UPDATE stages
           SET status = 'queued', failures = failures + %(counted)s, error = %(error)s,
               available_at = clock_timestamp() + %(delay)s * interval '1 second',
               lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL, worker_id = NULL
         WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s
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
        """
        UPDATE stages
           SET status = 'failed', failures = failures + 1, error = %(error)s, finished_at = clock_timestamp(),
               lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL
         WHERE id = %(id)s AND status = 'running' AND lease_token = %(token)s
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
