"""Claiming a stage: queued → running, under a fresh token and lease; every path to a running stage leads through here.

A worker claims a stage after a hint (the Redis message that says that a stage may be due), after a poll, or right after
the run's stage before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from peewee import fn

from vm_webapp.db.compiled import NOW, compiled, param
from vm_webapp.db.models import Run
from vm_webapp.db.pool import Row, execute, row, transaction
from vm_webapp.runs import admission, providers, statements
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.signals import run_changed
from vm_webapp.runs.states import LEASE_SECONDS
from vm_webapp.workflows.model import StageSpec, Workflow

ACTOR = "worker"

# A run that was retried keeps the time of its first start.
_START_RUN = compiled(
    Run.update({Run.status: "running", Run.started_at: fn.coalesce(Run.started_at, NOW)}).where(
        Run.id == param("id"), Run.status == "queued"
    )
)


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker process that claims a stage.

    Attributes:
        worker_id: the worker process.
        provider: name of the provider that it calls for stages that need a model.
        cap: most calls of that provider in flight across all workers, None for no limit.
    """

    worker_id: UUID
    provider: str
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A stage that a worker holds until its lease ends, fenced by ``token``.

    Attributes:
        snapshot: the run's snapshot: workflow, brand and project.
        feedback: what a reviewer asked to change, or None.
        provider: the provider admitted for this attempt; None for a stage that needs no model.
        seconds_left: how long the attempt may take from now on.
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
    seconds_left: float = field(compare=False)
    claimed_at: datetime = field(compare=False)


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """What a claim needs of its run."""

    id: UUID
    workflow: Workflow
    request: str
    snapshot: Mapping[str, Any]


def claim_stage(stage_id: UUID, claimant: Claimant, *, token: UUID) -> Claim | None:
    """Claim a due stage: queued → running, under a fresh token and lease.

    Called again after a COMMIT whose outcome is unknown, it recognises its own claim.

    Args:
        stage_id: which stage.
        claimant: the worker that claims it.
        token: a token that no attempt ever had. The same at every repetition.

    Returns:
        The claim, or None when there is nothing to claim: unknown, not due, taken, the queue or the provider paused,
        the cap reached.
    """
    # Not durable: a crash of PostgreSQL that loses the claim leaves the stage queued, and another attempt runs it. A
    # later durable commit makes the claim durable too, because the WAL is flushed in order.
    with transaction(durable=False):
        found = row(statements.LOCK_CLAIMABLE_STAGE, stage_id=stage_id, token=token)
        if found is None:
            return None
        run = ClaimedRun(
            found["run_id"], Workflow.from_snapshot(found["snapshot"]["workflow"]), found["request"], found["snapshot"]
        )
        if found["lease_token"] == token:
            # The first call committed and its result was lost with the connection, and so was its signal.
            run_changed.raise_after_commit(run.id)
            return make_claim(run, found, token)
        claim = claim_locked_stage(run, found, claimant, token)
        if claim is None:
            return None
        started = [started_event(claim)]
        # A run's later stages, and a stage that is retried after a backoff, find it running already.
        if found["status"] == "queued":
            _start_run(run.id)
            started.insert(0, NewEvent("run.started"))  # the timeline has the run's start before the stage's
        append_events(run.id, ACTOR, *started)
        return claim


def claim_locked_stage(run: ClaimedRun, stage: Row, claimant: Claimant, token: UUID) -> Claim | None:
    """Claim a stage that this transaction has locked, its run's row before it; the caller appends ``started_event``."""
    provider = claimant.provider if stage["needs_model"] else None
    # A statement of its own, before the claim: at READ COMMITTED each statement has a new snapshot, so the claim counts
    # whatever was committed before these locks were granted.
    paused = serialize_claims(stage["id"], provider, cap=claimant.cap)
    spec = run.workflow.stage(stage["key"])
    claimed = row(
        statements.claim_stage(),
        id=stage["id"],
        token=token,
        lease=LEASE_SECONDS,
        timeout=spec.timeout_seconds,
        worker=claimant.worker_id,
        called=provider,
        provider=claimant.provider,
        cap=claimant.cap,
    )
    if claimed is None:
        return None
    # Only after the claim has succeeded: a token on the provider that no stage holds would be no probe.
    if provider and paused:
        providers.begin_probe(provider, token)
    return make_claim(run, claimed, token)


def serialize_claims(stage_id: UUID, provider: str | None, *, cap: int | None) -> bool:
    """Lock what the rules of ``admission`` count, so that no other claim changes it until this transaction ends.

    Args:
        stage_id: the stage to be claimed, which is locked.
        provider: the provider that the attempt calls, whose row is added where there is none; None for a stage that
            needs no model.
        cap: most calls of the provider in flight across all workers, None for no limit.

    Returns:
        Whether the provider is paused: a claim that is admitted all the same is its probe.
    """
    for rule in admission.RULES:
        if rule.owner is not None:
            execute(statements.lock_owner(rule), id=stage_id, provider=provider, cap=cap)
    if provider is None:
        return False
    # Two claims that count the calls in flight at the same time would both find the last place under the cap free, so
    # with a cap each claim locks the provider's row before it counts. Without one, the row is locked only while the
    # provider is paused, so that one claim becomes the probe and not two; a healthy provider delays no claim.
    found = providers.read_provider(provider, lock=cap is not None)
    if found["paused_at"] is not None and cap is None:
        found = providers.read_provider(provider, lock=True)
    return found["paused_at"] is not None


def make_claim(run: ClaimedRun, stage: Row, token: UUID) -> Claim:
    """Build the claim from the row of a claimed stage."""
    return Claim(
        stage_id=stage["id"],
        run_id=run.id,
        token=token,
        attempt=stage["attempt"],
        spec=run.workflow.stage(stage["key"]),
        workflow=run.workflow,
        request=run.request,
        snapshot=run.snapshot,
        feedback=stage["feedback"],
        provider=stage["provider"],
        seconds_left=stage["seconds_left"],
        claimed_at=stage["claimed_at"],
    )


def started_event(claim: Claim) -> NewEvent:
    """Return the event that records a claim."""
    return NewEvent("stage.started", claim.spec.key, {"attempt": claim.attempt, "provider": claim.provider})


def _start_run(run_id: UUID) -> None:
    execute(_START_RUN, id=run_id)
