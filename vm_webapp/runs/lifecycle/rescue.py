"""Stages whose lease ended are taken back from whoever held them: their worker is dead, cut off or asleep."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import Row, execute, json, rows, transaction
from vm_webapp.runs.events import NewEvent, append_events, append_events_of_runs
from vm_webapp.runs.lifecycle.steps import LEASE_CLEARED, REQUEUED, error_json, fail_run
from vm_webapp.runs.signals import stage_due
from vm_webapp.runs.states import MAX_RESCUES, Failure, GiveUp, decide_rescue

ACTOR = "rescue"
RESCUE_BATCH = 100

WORKER_LOST = Failure(
    code="worker_lost",
    message=f"{MAX_RESCUES + 1} workers in a row died or lost contact while they carried this stage",
    permanent=True,
)


@dataclass(frozen=True, slots=True)
class Rescued:
    """What one batch did.

    Attributes:
        queued: stages that are due again.
        failed: stages given up.
        more: whether others may be left.
    """

    queued: tuple[UUID, ...]
    failed: tuple[UUID, ...]
    more: bool


def rescue_expired_leases(*, until: float = math.inf) -> Rescued:
    """Take back up to 100 stages whose lease ended by the database's clock.

    Rows that another transaction holds are skipped: whoever holds them is ending the attempt, or rescuing it too. So
    a batch never waits, although it holds many runs at once, and cannot take part in a deadlock.

    Args:
        until: monotonic time after which no further stage is given up: each takes statements of its own.
    """
    with transaction():
        expired = rows(
            """
            SELECT s.id, s.run_id, s.key, s.rescues
              FROM stages s JOIN runs r ON r.id = s.run_id
             WHERE s.status = 'running' AND s.lease_expires_at < clock_timestamp()
             ORDER BY s.lease_expires_at
             LIMIT %(batch)s
               FOR NO KEY UPDATE OF r, s SKIP LOCKED
            """,
            batch=RESCUE_BATCH,
        )
        lost_too_often = [stage for stage in expired if decide_rescue(rescues_before=stage["rescues"]) == GiveUp()]
        queued = tuple(stage["id"] for stage in expired if stage not in lost_too_often)
        if queued:
            _requeue(queued)
            for stage_id in queued:
                stage_due.raise_after_commit(stage_id)
        failed = []
        for stage in lost_too_often:
            _give_up(stage)
            failed.append(stage["id"])
            if time.monotonic() >= until:
                break
    left = len(expired) - len(queued) - len(failed)
    return Rescued(queued, tuple(failed), more=left > 0 or len(expired) == RESCUE_BATCH)


def _requeue(stage_ids: tuple[UUID, ...]) -> None:
    # Two statements for all: a worker that inherits a dead fleet's stages has its own leases to renew.
    rescued = rows(
        f"""
        UPDATE stages SET {REQUEUED}, available_at = clock_timestamp(), rescues = rescues + 1
         WHERE id = ANY(%(ids)s::uuid[])
        RETURNING run_id, key, attempt, rescues
        """,
        ids=list(stage_ids),
    )
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
    execute(
        f"""
        UPDATE stages SET status = 'failed', finished_at = clock_timestamp(), error = %(error)s, rescues = rescues + 1,
                          {LEASE_CLEARED}
         WHERE id = %(id)s
        """,
        id=stage["id"],
        error=json(error_json(WORKER_LOST)),
    )
    append_events(stage["run_id"], ACTOR, *fail_run(stage["run_id"], stage["key"], WORKER_LOST))
