"""A person takes hold of a whole run: cancel it, or put a failed one back to work."""

from __future__ import annotations

from uuid import UUID

from vm_webapp.db.pool import Row, execute, row, transaction
from vm_webapp.errors import Conflict, NotFound
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.steps import LEASE_CLEARED, lock_run
from vm_webapp.runs.signals import stage_due


def cancel_run_if_open(run_id: UUID, *, actor: str) -> bool:
    """Cancel a run and every stage that is not complete. A call in flight loses its lease and is abandoned.

    Returns:
        False when the run was canceled already: nothing changed.

    Raises:
        NotFound: no such run.
        Conflict: the run is completed.
    """
    with transaction():
        run = lock_run(run_id)
        if run["status"] == "completed":
            raise Conflict("the run is completed; there is nothing left to cancel")
        if run["status"] == "canceled":
            return False
        execute(
            f"""
            UPDATE stages SET status = 'canceled', finished_at = clock_timestamp(),
                              {LEASE_CLEARED}
             WHERE run_id = %(id)s AND status NOT IN ('completed', 'canceled')
            """,
            id=run_id,
        )
        execute(
            """
            UPDATE runs SET status = 'canceled', finished_at = clock_timestamp()
             WHERE id = %(id)s AND status NOT IN ('completed', 'canceled')
            """,
            id=run_id,
        )
        append_events(run_id, actor, NewEvent("run.canceled"))
        return True


def retry_run_if_failed(run_id: UUID, *, from_stage: str | None, actor: str) -> None:
    """Put a failed run back to work from its failed stage or from an earlier one; older versions stay.

    Args:
        run_id: the run.
        from_stage: key of the stage to start from, None for the one that failed.
        actor: who asks.

    Raises:
        NotFound: no such run or stage.
        Conflict: the run is not failed, or the stage lies behind the one that failed.
    """
    with transaction():
        run = lock_run(run_id)
        if run["status"] != "failed":
            raise Conflict(f"the run is {run['status']}; only a failed run can be retried")
        first = _stage_to_start_from(run_id, from_stage)
        execute(
            """
            UPDATE stages
               SET status = CASE WHEN position = %(position)s THEN 'queued' ELSE 'pending' END,
                   queued_at = CASE WHEN position = %(position)s THEN clock_timestamp() END,
                   available_at = CASE WHEN position = %(position)s THEN clock_timestamp() END,
                   started_at = NULL, finished_at = NULL, error = NULL, feedback = NULL, provider = NULL,
                   failures = 0, rescues = 0, releases = 0
             WHERE run_id = %(run_id)s AND position >= %(position)s
            """,
            run_id=run_id,
            position=first["position"],
        )
        execute(
            """
            UPDATE runs SET status = 'queued', error = NULL, finished_at = NULL
             WHERE id = %(id)s AND status = 'failed'
            """,
            id=run_id,
        )
        append_events(
            run_id,
            actor,
            NewEvent("run.retried", None, {"from_stage": first["key"]}),
            NewEvent("stage.queued", first["key"]),
        )
        stage_due.raise_after_commit(first["id"])


def _stage_to_start_from(run_id: UUID, key: str | None) -> Row:
    failed = row(
        "SELECT id, key, position FROM stages WHERE run_id = %(id)s AND status = 'failed' ORDER BY position LIMIT 1",
        id=run_id,
    )
    assert failed is not None, "a failed run has a failed stage"
    if key is None:
        return failed
    wanted = row("SELECT id, key, position FROM stages WHERE run_id = %(id)s AND key = %(key)s", id=run_id, key=key)
    if wanted is None:
        raise NotFound(f"run {run_id} has no stage {key}")
    if wanted["position"] > failed["position"]:
        raise Conflict(f"the stage {key} lies behind {failed['key']}, which failed")
    return wanted
