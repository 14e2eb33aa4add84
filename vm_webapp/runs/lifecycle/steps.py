"""Steps that several transitions share; each runs inside its caller's transaction, under the run's lock."""

from __future__ import annotations

from uuid import UUID

from vm_webapp.db.pool import Row, execute, json, row
from vm_webapp.errors import NotFound
from vm_webapp.runs.events import NewEvent
from vm_webapp.runs.states import Failure

# What an attempt held is let go with it; who ran a stage last is kept where the stage has come to its end.
LEASE_CLEARED = "lease_token = NULL, lease_expires_at = NULL, deadline_at = NULL"
FENCED = "id = %(id)s AND status = 'running' AND lease_token = %(token)s"  # only the attempt that holds the stage
REQUEUED = f"status = 'queued', worker_id = NULL, {LEASE_CLEARED}"


def lock_run(run_id: UUID) -> Row:
    """Lock the run's row until the transaction ends, and return it.

    ``NO KEY``: readers of foreign keys (new events, artifacts) are not held up, other transitions are.

    Raises:
        NotFound: there is no such run.
    """
    run = row("SELECT id, status, auto_approve FROM runs WHERE id = %(id)s FOR NO KEY UPDATE", id=run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


def queue_next_stage(run_id: UUID) -> Row | None:
    """Make the run's first pending stage due, and return its id, key and needs; None where no stage is left."""
    return row(
        """
        UPDATE stages SET status = 'queued', queued_at = clock_timestamp(), available_at = clock_timestamp()
         WHERE status = 'pending'
           AND id = (SELECT id FROM stages WHERE run_id = %(run_id)s AND status = 'pending'
                      ORDER BY position LIMIT 1)
        RETURNING id, key, needs_model
        """,
        run_id=run_id,
    )


def advance_run(run_id: UUID) -> tuple[Row | None, list[NewEvent]]:
    """After a completed stage: queue the next one, or complete the run.

    Returns:
        The stage that is now due (its id, key and whether it needs a model), or None when the run is complete; and
        the events to append.
    """
    queued = queue_next_stage(run_id)
    if queued is not None:
        return queued, [NewEvent("stage.queued", queued["key"])]
    execute(
        """
        UPDATE runs SET status = 'completed', finished_at = clock_timestamp()
         WHERE id = %(id)s AND status IN ('running', 'waiting_approval')
        """,
        id=run_id,
    )
    return None, [NewEvent("run.completed")]


def fail_run(run_id: UUID, stage_key: str, failure: Failure) -> list[NewEvent]:
    """Fail the run because one of its stages failed; return the events to append."""
    error = error_json(failure)
    execute(
        """
        UPDATE runs SET status = 'failed', finished_at = clock_timestamp(), error = %(error)s
         WHERE id = %(id)s AND status = 'running'
        """,
        id=run_id,
        error=json(error),
    )
    return [
        NewEvent("stage.failed", stage_key, error),
        NewEvent("run.failed", None, error | {"stage": stage_key}),
    ]


def error_json(failure: Failure) -> dict[str, object]:
    """Return the stored form of a failure."""
    return {"code": failure.code, "message": failure.message, "retryable": not failure.permanent}
