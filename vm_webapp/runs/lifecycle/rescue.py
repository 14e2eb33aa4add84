"""Stages whose lease ended are taken back from whoever held them: their worker is dead, cut off or asleep."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import Row, execute, json, rows, transaction
from vm_webapp.runs.events import append_events
from vm_webapp.runs.lifecycle.steps import error_json, fail_run
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
    """What one batch did: stages that are due again, and stages given up."""

    queued: tuple[UUID, ...]
    failed: tuple[UUID, ...]


def rescue_expired_leases() -> Rescued:
    """Take back up to 100 stages whose lease ended by the database's clock.

    Rows that another transaction holds are skipped: whoever holds them is ending the attempt, or rescuing it too. So
    a batch never waits, although it holds many runs at once, and cannot take part in a deadlock.
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
        for stage in lost_too_often:
            _give_up(stage)
        failed = tuple(stage["id"] for stage in lost_too_often)
        queued = tuple(stage["id"] for stage in expired if stage["id"] not in failed)
        if queued:
            _requeue(queued)
    return Rescued(queued, failed)


def _requeue(stage_ids: tuple[UUID, ...]) -> None:
    # One statement for all, events included: a worker that inherits a dead fleet's stages has its own leases to renew.
    execute(
        """
        WITH rescued AS (
            UPDATE stages SET status = 'queued', available_at = clock_timestamp(), rescues = rescues + 1,
                              lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL, worker_id = NULL
             WHERE id = ANY(%(ids)s::uuid[])
            RETURNING run_id, key, attempt, rescues
        )
        INSERT INTO events (run_id, stage, type, actor, data)
        SELECT run_id, key, 'stage.rescued', %(actor)s, jsonb_build_object('attempt', attempt, 'rescues', rescues)
          FROM rescued
        """,
        ids=list(stage_ids),
        actor=ACTOR,
    )


def _give_up(stage: Row) -> None:
    execute(
        """
        UPDATE stages SET status = 'failed', finished_at = clock_timestamp(), error = %(error)s, rescues = rescues + 1,
                          lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL
         WHERE id = %(id)s
        """,
        id=stage["id"],
        error=json(error_json(WORKER_LOST)),
    )
    append_events(stage["run_id"], ACTOR, *fail_run(stage["run_id"], stage["key"], WORKER_LOST))
