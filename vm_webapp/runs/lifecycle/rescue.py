"""Rescuing stages whose lease expired because their worker is dead, cut off or stopped: they are queued again."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from peewee import SQL, fn

from vm_webapp.db.compiled import NO_KEY_UPDATE, NOW, compiled, param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import Row, autocommit, execute, jsonb, rows, transaction
from vm_webapp.db.prepared import prepared
from vm_webapp.metrics import RESCUES
from vm_webapp.runs.events import NewEvent, append_events, append_events_of_runs
from vm_webapp.runs.lifecycle.steps import LEASE_CLEARED, REQUEUED, count_after_commit, error_json, fail_run
from vm_webapp.runs.signals import stage_due
from vm_webapp.runs.states import MAX_RESCUES, Failure, GiveUp, decide_rescue

ACTOR = "rescue"
RESCUE_BATCH = 100

WORKER_LOST = Failure(
    code="worker_lost",
    message=f"{MAX_RESCUES + 1} workers in a row died or lost contact while they ran this stage",
    permanent=True,
)

# Rows that another transaction has locked are skipped, because it is ending, renewing or rescuing the attempt itself.
# So a batch locks many runs at once without ever waiting, and cannot deadlock. PostgreSQL locks in the order of OF: the
# run first. A lease that was renewed after the snapshot is safe: at READ COMMITTED, PostgreSQL evaluates the condition
# again on the newest version of the row that it locks.
_R, _S = Run.alias("r"), Stage.alias("s")
_LOCK_EXPIRED = compiled(
    _S.select(_S.id, _S.run, _S.key, _S.rescues, _S.attempt, _S.lease_expires_at, _S.trace_context)
    .join(_R)
    .where(_S.status == "running", _S.lease_expires_at < NOW)
    .order_by(_S.lease_expires_at)
    .limit(param("batch"))
    .for_update(NO_KEY_UPDATE, of=(SQL("r"), SQL("s")), skip_locked=True)
)
_ANY_EXPIRED = prepared(_S.select(_S.id).where(_S.status == "running", _S.lease_expires_at < NOW).limit(1))
# The id is guard enough: the rows are locked since _LOCK_EXPIRED found them running and expired.
_REQUEUE = compiled(
    Stage.update({**REQUEUED, Stage.available_at: NOW, Stage.rescues: Stage.rescues + 1})
    .where(Stage.id == fn.ANY(param("ids").cast("uuid[]")))
    .returning(Stage.run, Stage.key, Stage.attempt, Stage.rescues)
)
_GIVE_UP = compiled(
    Stage.update(
        {
            Stage.status: "failed",
            Stage.finished_at: NOW,
            Stage.error: param("error"),
            Stage.rescues: Stage.rescues + 1,
            **LEASE_CLEARED,
        }
    ).where(Stage.id == param("id"))
)


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt whose worker did not end it.

    Attributes:
        lease_expires_at: when its lease ended.
        trace_context: the ``traceparent`` of its stage, None if the run is not traced.
    """

    run_id: UUID
    key: str
    attempt: int
    lease_expires_at: datetime
    trace_context: str | None


@dataclass(frozen=True, slots=True)
class Rescued:
    """The result of one batch.

    Attributes:
        queued: stages that are due again.
        failed: stages that failed, because they had lost too many leases.
        more: whether expired leases may remain.
        lost: the attempts that these stages have lost.
    """

    queued: tuple[UUID, ...]
    failed: tuple[UUID, ...]
    more: bool
    lost: tuple[LostAttempt, ...] = ()


def rescue_expired_leases(*, until: float = math.inf) -> Rescued:
    """Queue up to 100 stages again whose lease expired by the database's clock; fail those that lost it too often.

    Args:
        until: monotonic time after which no further stage is failed: each takes statements of its own.
    """
    with autocommit():  # mostly none has: one round trip, and no lock
        if not rows(_ANY_EXPIRED):
            return Rescued((), (), more=False)
    with transaction():
        expired = rows(_LOCK_EXPIRED, batch=RESCUE_BATCH)
        lost_too_often = [stage for stage in expired if decide_rescue(rescues_before=stage["rescues"]) == GiveUp()]
        queued = tuple(stage["id"] for stage in expired if stage not in lost_too_often)
        if queued:
            _requeue(queued)
            count_after_commit(RESCUES.inc, len(queued))
            for stage_id in queued:
                stage_due.raise_after_commit(stage_id)
        failed = []
        for stage in lost_too_often:
            _give_up(stage)
            failed.append(stage["id"])
            count_after_commit(RESCUES.inc)
            # After the first one and not before: each batch makes progress, however late it is.
            if time.monotonic() >= until:
                break
    ended = {*queued, *failed}
    lost = tuple(_lost_attempt(stage) for stage in expired if stage["id"] in ended)
    return Rescued(queued, tuple(failed), more=len(expired) > len(ended) or len(expired) == RESCUE_BATCH, lost=lost)


def _lost_attempt(stage: Row) -> LostAttempt:
    return LostAttempt(
        stage["run_id"], stage["key"], stage["attempt"], stage["lease_expires_at"], stage["trace_context"]
    )


def _requeue(stage_ids: tuple[UUID, ...]) -> None:
    # Two statements for the whole batch: the pulse (the worker's maintenance loop) that rescues a dead fleet's stages
    # must also renew its own worker's leases.
    rescued = rows(_REQUEUE, ids=list(stage_ids))
    append_events_of_runs(
        ACTOR,
        [
            (
                stage["run_id"],
                NewEvent("stage.rescued", stage["key"], {"attempt": stage["attempt"], "rescues": stage["rescues"]}),
            )
            for stage in rescued
        ],
    )


def _give_up(stage: Row) -> None:
    execute(_GIVE_UP, id=stage["id"], error=jsonb(error_json(WORKER_LOST)))
    append_events(stage["run_id"], ACTOR, *fail_run(stage["run_id"], stage["key"], WORKER_LOST))
