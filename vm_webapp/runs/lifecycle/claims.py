"""Claims stages: moves a stage from queued to running with a new token and lease. Nothing else makes a stage running.

A worker tries a claim when a message in Redis says that a stage may be due (a hint), when it polls, or when it has
finished the run's previous stage.
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

ACTOR = "worker"  # who the events of the timeline say did it

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
        cap: the largest number of concurrent calls of that provider over all workers, None for no limit.
    """

    worker_id: UUID
    provider: str
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A stage that a worker holds until its lease ends. Later writes are accepted only with its ``token``.

    Attributes:
        attempt: the number of the claim, from 1; it only grows.
        spec: the stage as its workflow describes it.
        request: the text that the run was created with.
        snapshot: workflow, brand and project as they were when the run was created.
        feedback: what a reviewer asked to change, or None.
        provider: the provider that this attempt calls; None for a stage that needs no model.
        seconds_left: the time until the attempt's deadline (not its lease), measured at the claim.
        claimed_at: when it was claimed, by the database's clock.
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
class RunOfStage:
    """The fields of a run that a claim of one of its stages copies."""

    id: UUID
    workflow: Workflow
    request: str
    snapshot: Mapping[str, Any]


def claim_stage(stage_id: UUID, claimant: Claimant, *, token: UUID) -> Claim | None:
    """Claim a due stage: queued → running, under a fresh token and lease.

    It may be called again with the same token if the result of a COMMIT was lost: it then returns the same claim.

    Args:
        stage_id: which stage.
        claimant: the worker that claims it.
        token: a new random token for each claim; a repeated call passes the same one.

    Returns:
        The claim. None if the stage is unknown, not due or taken, if the queue is paused, if its provider is paused and
        no trial call (the probe) is due, or if the cap is reached.
    """
    # Durable, although a claim that a crash of PostgreSQL undoes would only be made again: the crash would take back
    # events that readers have seen, and use their ids again.
    with transaction():
        found = row(statements.LOCK_CLAIMABLE_STAGE, stage_id=stage_id, token=token)
        if found is None:
            return None
        run = RunOfStage(
            found["run_id"], Workflow.from_snapshot(found["snapshot"]["workflow"]), found["request"], found["snapshot"]
        )
        if found["lease_token"] == token:
            # The first call committed, and the connection broke before the result came back: no signal was sent.
            run_changed.raise_after_commit(run.id)
            return make_claim(run, found, token)
        claim = _claim_locked_stage(run, found, claimant, token)
        if claim is None:
            return None
        started = [_started_event(claim)]
        # A run's later stages, and a stage that is retried after a backoff, find it running already.
        if found["status"] == "queued":
            _start_run(run.id)
            started.insert(0, NewEvent("run.started"))  # the timeline has the run's start before the stage's
        append_events(run.id, ACTOR, *started)
        return claim


def _claim_locked_stage(run: RunOfStage, stage: Row, claimant: Claimant, token: UUID) -> Claim | None:
    """Claim a stage in the caller's transaction, which has locked the run's row and then the stage's.

    The caller appends ``_started_event``, and starts the run if this is its first stage.

    Returns:
        The claim, or None if a rule of ``admission`` holds the stage back.
    """
    provider = claimant.provider if stage["needs_model"] else None
    # Before the statement that claims: at READ COMMITTED each statement sees what was committed when it began, so the
    # claim counts everything that was committed before these locks were granted.
    paused = serialize_claims(stage["id"], provider, cap=claimant.cap)
    spec = run.workflow.stage(stage["key"])
    claimed = row(
        statements.claim_stage(),
        id=stage["id"],
        token=token,
        lease=LEASE_SECONDS,
        timeout=spec.timeout_seconds,
        worker=claimant.worker_id,
        called=provider,  # None if the stage needs no model
        provider=claimant.provider,  # what the rules are about
        cap=claimant.cap,
    )
    if claimed is None:
        return None
    # Only after the claim has succeeded. The provider records which attempt makes the trial call while it is paused;
    # with the token of a claim that failed it would record one that no stage holds.
    if provider and paused:
        providers.begin_probe(provider, token)
    return make_claim(run, claimed, token)


def serialize_claims(stage_id: UUID, provider: str | None, *, cap: int | None) -> bool:
    """Make concurrent claims wait for each other where a rule of ``admission`` counts, until this transaction ends.

    Args:
        stage_id: the stage to be claimed, which is locked.
        provider: the provider that the attempt calls, whose row is inserted if it is missing; None for a stage that
            needs no model.
        cap: the largest number of concurrent calls of the provider over all workers, None for no limit.

    Returns:
        Whether the provider is paused: a claim that is admitted even so is its probe.
    """
    for rule in admission.RULES:
        if rule.owner is not None:
            execute(statements.lock_owner(rule), id=stage_id, provider=provider, cap=cap)
    if provider is None:
        return False
    # Two claims that count the calls in flight at the same time would both take the last one that the cap allows, so
    # with a cap each claim locks the provider's row before it counts. Without one, the row is locked only while the
    # provider is paused, so that one claim becomes the probe and not two; a healthy provider delays no claim. The row
    # is read again under the lock, because the pause may have ended while this claim waited.
    found = providers.read_provider(provider, lock=cap is not None)
    if found["paused_at"] is not None and cap is None:
        found = providers.read_provider(provider, lock=True)
    return found["paused_at"] is not None


def make_claim(run: RunOfStage, stage: Row, token: UUID) -> Claim:
    """Build the claim from the row that the claim, or the search for an earlier one, has returned."""
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


def _started_event(claim: Claim) -> NewEvent:
    """Return the event that records a claim."""
    return NewEvent("stage.started", claim.spec.key, {"attempt": claim.attempt, "provider": claim.provider})


def _start_run(run_id: UUID) -> None:
    execute(_START_RUN, id=run_id)
