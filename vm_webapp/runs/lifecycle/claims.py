"""Claims stages: moves a stage from queued to running with a new token and lease. Nothing else makes a stage running.

A worker claims as many due stages as it has free slots when a message in Redis says that a stage may be due (a hint)
and when it polls. ``attempts`` claims a run's next stage for the worker that has ended the one before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from vm_webapp.db.pool import Row, autocommit, rows, transaction
from vm_webapp.db.prepared import Prepared
from vm_webapp.runs import providers, statements
from vm_webapp.runs.lifecycle.claimed_snapshots import read_kept, restored
from vm_webapp.runs.signals import run_changed
from vm_webapp.runs.states import LEASE_SECONDS
from vm_webapp.workflows.model import StageSpec, Workflow

ACTOR = "worker"  # who the events of the timeline say did it


@dataclass(frozen=True, slots=True)
class Claimant:
    """The worker process that claims a stage.

    Attributes:
        worker_id: the worker process.
        provider: name of the provider that it calls for stages that need a model.
        cap: the largest number of concurrent calls of that provider over all workers, None for no limit.
        claiming: held by the thread of that process that claims.
    """

    worker_id: UUID
    provider: str
    cap: int | None = None
    claiming: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """A stage that a worker holds until its lease ends. Later writes are accepted only with its ``token``.

    Attributes:
        attempt: the number of the claim, from 1; it only grows.
        spec: the stage as its workflow describes it.
        request: the text that the run was created with.
        request_id: ``X-Request-ID`` of the request that created the run, None if it was a command.
        snapshot: ``brand`` and ``project`` as they were when the run was created, or None.
        feedback: what a reviewer asked to change, or None.
        provider: the provider that this attempt calls; None for a stage that needs no model.
        trace_context: the ``traceparent`` of the attempt's span, None if the run is not traced.
        seconds_left: the time until the attempt's deadline (not its lease), measured at the claim.
        claimed_at: when it was claimed, by the database's clock.
        waited_seconds: for how long it had been due by then, None if that is unknown.
        made_at: when this process received the claim, in monotonic seconds.
    """

    stage_id: UUID
    run_id: UUID
    token: UUID
    attempt: int
    spec: StageSpec
    workflow: Workflow
    request: str = field(repr=False)
    request_id: str | None
    snapshot: Mapping[str, Any] = field(repr=False)
    feedback: str | None = field(repr=False)
    provider: str | None
    trace_context: str | None
    seconds_left: float = field(compare=False)
    claimed_at: datetime = field(compare=False)
    waited_seconds: float | None = field(default=None, compare=False)
    made_at: float = field(default_factory=time.monotonic, compare=False, repr=False)

    @property
    def key(self) -> str:
        """The stage's key in its workflow."""
        return self.spec.key


@dataclass(frozen=True, slots=True)
class UnreadableClaim:
    """A claim that this build cannot read, such as that of a run which a newer build has created.

    Attributes:
        key: the stage's key in its workflow.
        request_id: as for ``Claim``.
        error: why it cannot be read.
    """

    stage_id: UUID
    run_id: UUID
    token: UUID
    attempt: int
    key: str
    request_id: str | None
    error: Exception


@dataclass(frozen=True, slots=True)
class ClaimedStages:
    """What a worker has claimed.

    Attributes:
        claims: in the order in which they should be executed.
        unreadable: claims that this build must release for others.
        more: whether others may be due, or become claimable when a call ends: the worker should then claim again as
            soon as one of its calls ends.
    """

    claims: tuple[Claim, ...] = ()
    unreadable: tuple[UnreadableClaim, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class RunOfStage:
    """The fields of a run that a claim of one of its stages copies."""

    id: UUID
    workflow: Workflow
    request: str
    request_id: str | None
    snapshot: Mapping[str, Any]


def claim_due_stages(claimant: Claimant, tokens: Sequence[UUID], *, without: Collection[UUID] = ()) -> ClaimedStages:
    """Claim due stages in their order: queued → running, each under a token of its own and a fresh lease.

    If the outcome is unknown, because the connection broke, ``find_claims`` with the same tokens tells it.

    Args:
        claimant: the worker that claims them.
        tokens: new random tokens, one for each stage that the worker can take.
        without: stages to leave out.

    Raises:
        DatabaseUnavailable: the outcome is unknown.
    """
    found = _claim(statements.claim_due_stages(), claimant, tokens, without=list(without))
    claims, unreadable = _read(found.stages)
    return ClaimedStages(claims, unreadable, more=found.more)


def claim_stage(stage_id: UUID, claimant: Claimant, *, token: UUID) -> Claim | None:
    """Claim one stage if it is due.

    It may be called again with the same token if the result of a COMMIT was lost: it then returns the same claim.

    Args:
        stage_id: which stage.
        claimant: the worker that claims it.
        token: a new random token for each claim; a repeated call passes the same one.

    Returns:
        The claim. None if the stage is unknown, not due, locked or taken, if the queue is paused, if its provider is
        paused and no trial call (the probe) is due, or if a limit is reached.
    """
    found = _claim(statements.claim_one_stage(), claimant, [token], stage_id=stage_id)
    claims, unreadable = _read(found.stages)
    if unreadable:
        raise unreadable[0].error
    claims = claims or find_claims([token])
    return claims[0] if claims else None


def find_claims(tokens: Sequence[UUID]) -> tuple[Claim, ...]:
    """Return the claims that were made under these tokens and still hold their stages."""
    with transaction(durable=False):
        found = rows(statements.CLAIMED_UNDER, tokens=list(tokens))
        # The call that made them committed, and the connection broke before the result came back: no signal was sent.
        for each in found:
            run_changed.raise_after_commit(each["run_id"])
    return _read(found)[0]


@dataclass(frozen=True, slots=True)
class _Found:
    """What ``statements._claim`` has returned: the claimed stages, in their order."""

    stages: list[Row]
    more: bool
    calls_wait: bool = False
    held_back: bool = False


def _claim(statement: Prepared, claimant: Claimant, tokens: Sequence[UUID], **which: Any) -> _Found:
    stages: list[Row] = []
    # One thread of a worker after the other: each counts what the others have claimed, so that a lone worker never
    # passes the limit of an owner. No connection is held during the wait.
    with claimant.claiming:
        while True:
            found = _claim_once(statement, claimant, tokens[len(stages) :], **which)
            stages.extend(found.stages)
            # A claim takes one stage of an owner with a limit. The others that it locked may fit as well, or they hid
            # those of other owners.
            if not (found.stages and found.held_back and len(stages) < len(tokens)):
                return _Found(stages, more=found.more or len(stages) == len(tokens))


def _claim_once(statement: Prepared, claimant: Claimant, tokens: Sequence[UUID], **which: Any) -> _Found:
    # Durable, although a claim that a crash of PostgreSQL undoes would only be made again: the crash would take back
    # events that readers have seen, and use their ids again.
    with autocommit():
        first = _run(statement, claimant, tokens, provider_locked=False, **which)
    left = tokens[len(first.stages) :]
    if not (first.calls_wait and left):
        return first
    with transaction():
        provider = providers.read_provider(claimant.provider, lock=True)
        # A statement of its own: its snapshot contains what other claims committed before this one got the lock.
        second = _run(statement, claimant, left, provider_locked=True, **which)
        called = [stage["lease_token"] for stage in second.stages if stage["provider"]]
        if provider["paused_at"] is not None and called:
            providers.begin_probe(claimant.provider, called[0])
    return _Found(
        [*first.stages, *second.stages],
        more=first.more or second.more,
        held_back=first.held_back or second.held_back,
    )


def _run(statement: Prepared, claimant: Claimant, tokens: Sequence[UUID], **values: Any) -> _Found:
    limit = len(tokens)
    found = rows(
        statement,
        limit=limit,
        tokens=list(tokens),
        lease=LEASE_SECONDS,
        worker=claimant.worker_id,
        actor=ACTOR,
        provider=claimant.provider,
        cap=claimant.cap,
        **values,
    )
    stages = sorted((each for each in found if each["id"] is not None), key=lambda stage: int(stage["number"]))
    for stage in stages:
        run_changed.raise_after_commit(stage["run_id"])
    facts = found[0]
    # Capacity for one more than the limit was asked for. Capacity for that many other stages and for fewer calls means
    # that a rule about calls holds some back; the end of a call may change that.
    calls_are_held_back = facts["calls"] <= limit < facts["others"]
    held_back = facts["held_back"] > 0
    more = len(stages) == limit or held_back or calls_are_held_back
    return _Found(stages, more, facts["calls_wait"], held_back)


def _read(stages: Sequence[Row]) -> tuple[tuple[Claim, ...], tuple[UnreadableClaim, ...]]:
    """Return the claims, and those that this build cannot read.

    Raises:
        DatabaseUnavailable: the snapshots of their runs could not be read.
    """
    claims, unreadable = [], []
    kept = read_kept(stages)
    for stage in stages:
        token = stage["lease_token"]
        try:
            snapshot, workflow = restored(stage, kept)
            run = RunOfStage(stage["run_id"], workflow, stage["request"], stage["request_id"], snapshot)
            claims.append(make_claim(run, stage, token, waited_seconds=stage.get("waited_seconds")))
        except Exception as error:  # whatever the snapshot of another build makes it raise
            unreadable.append(
                UnreadableClaim(
                    stage["id"], stage["run_id"], token, stage["attempt"], stage["key"], stage["request_id"], error
                )
            )
    return tuple(claims), tuple(unreadable)


def make_claim(run: RunOfStage, stage: Row, token: UUID, *, waited_seconds: float | None = None) -> Claim:
    """Build the claim from the row that the claim, or the search for an earlier one, has returned."""
    return Claim(
        stage_id=stage["id"],
        run_id=run.id,
        token=token,
        attempt=stage["attempt"],
        spec=run.workflow.stage(stage["key"]),
        workflow=run.workflow,
        request=run.request,
        request_id=run.request_id,
        snapshot=run.snapshot,
        feedback=stage["feedback"],
        provider=stage["provider"],
        trace_context=stage["trace_context"],
        seconds_left=stage["seconds_left"],
        claimed_at=stage["claimed_at"],
        waited_seconds=waited_seconds,
    )
