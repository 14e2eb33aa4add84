"""Steps that several transitions share; each runs inside its caller's transaction, under the run's lock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from peewee import Field

from vm_webapp.db.compiled import NO_KEY_UPDATE, NOW, STATEMENT_TIME, compiled, param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import Row, jsonb, row
from vm_webapp.db.unit_of_work import after_commit
from vm_webapp.errors import NotFound
from vm_webapp.metrics import count_run, count_stage
from vm_webapp.runs import statements
from vm_webapp.runs.events import NewEvent
from vm_webapp.runs.signals import stage_due
from vm_webapp.runs.states import Failure

Changes = dict[Field, Any]

# All three together: a CHECK demands token, lease and deadline exactly while the stage is running. ``worker_id`` stays
# where the stage has ended: it shows which worker ran it last.
LEASE_CLEARED: Changes = {Stage.lease_token: None, Stage.lease_expires_at: None, Stage.deadline_at: None}
REQUEUED: Changes = {Stage.status: "queued", Stage.worker_id: None, **LEASE_CLEARED}
# Only the attempt that still holds the stage: an attempt that lost its lease and returns late changes no row, even if
# the same worker runs the stage again under another token.
FENCED = (Stage.id == param("id")) & (Stage.status == "running") & (Stage.lease_token == param("token"))

MOST_PARTIAL_CHARACTERS = 20_000

# NO KEY: other transitions wait for this lock, the checks of foreign keys (FOR KEY SHARE) do not. After a wait,
# PostgreSQL returns the run's newest version, not that of the statement's snapshot; only what the caller reads next
# sees the rest.
_LOCK_RUN = compiled(
    Run.select(Run.id, Run.workflow, Run.status, Run.auto_approve, Run.four_eyes, Run.creator_id)
    .where(Run.id == param("id"))
    .for_update(NO_KEY_UPDATE)
)
_FIRST_PENDING = (
    Stage.select(Stage.id)
    .where(Stage.run == param("run_id"), Stage.status == "pending")
    .order_by(Stage.position)
    .limit(1)
)
# The status is compared twice: the subquery reads the statement's snapshot, and the outer condition is evaluated again
# on the newest version of the row, should the statement have had to wait for its lock.
_QUEUE_NEXT = compiled(
    Stage.update({Stage.status: "queued", Stage.queued_at: STATEMENT_TIME, Stage.available_at: STATEMENT_TIME})
    .where(Stage.status == "pending", Stage.id == _FIRST_PENDING)
    .returning(Stage.id, Stage.key, Stage.needs_model)
)
# Two statuses: the last stage may end by a worker's finish or by a person's approval.
_COMPLETE_RUN = compiled(
    Run.update({Run.status: "completed", Run.finished_at: NOW})
    .where(Run.id == param("id"), Run.status.in_(("running", "waiting_approval")))
    .returning(Run.workflow)
)
# A canceled run stays canceled: its stage has lost its token by then, so this is a second guard. A run may be queued
# that fails because its budget is spent.
_FAIL_RUN = compiled(
    Run.update({Run.status: "failed", Run.finished_at: NOW, Run.error: param("error")})
    .where(Run.id == param("id"), Run.status.in_(("queued", "running")))
    .returning(Run.workflow)
)


def lock_run(run_id: UUID) -> Row:
    """Lock the run's row until the transaction ends, and return it.

    Raises:
        NotFound: there is no such run.
    """
    run = row(_LOCK_RUN, id=run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


def queue_next_stage(run_id: UUID) -> Row | None:
    """Make the run's first pending stage due.

    Returns:
        Its id, its key and whether it needs a model, or None where no stage is left.
    """
    return row(_QUEUE_NEXT, run_id=run_id)


def advance_run(run_id: UUID) -> tuple[Row | None, list[NewEvent]]:
    """Queue the stage after the one that was completed, or complete the run.

    Returns:
        The stage that is now due (its id, key and whether it needs a model), or None when the run is complete; and
        the events to append.
    """
    queued = queue_next_stage(run_id)
    if queued is not None:
        return queued, [NewEvent("stage.queued", queued["key"])]
    completed = row(_COMPLETE_RUN, id=run_id)
    if completed:
        count_after_commit(count_run, completed["workflow"], "completed")
    return None, [NewEvent("run.completed")]


def signal_room(run_id: UUID) -> None:
    """Signal, where a rule limits the run's owner, that other runs of that owner may continue.

    To be called when a stage of the run is no longer running and none follows. Without the signal they would wait until
    a worker polls.
    """
    stage = row(statements.find_limited_stage(), run_id=run_id)
    if stage is not None:
        stage_due.raise_after_commit(stage["id"])


def fail_run(run_id: UUID, stage_key: str, failure: Failure) -> list[NewEvent]:
    """Fail the run because one of its stages failed, which no longer runs; return the events to append."""
    error = error_json(failure)
    failed = row(_FAIL_RUN, id=run_id, error=jsonb(error))
    if failed:
        count_after_commit(count_stage, failed["workflow"], stage_key, "failed")
        count_after_commit(count_run, failed["workflow"], "failed")
    signal_room(run_id)
    return [
        NewEvent("stage.failed", stage_key, failed_attempt_json(failure)),
        NewEvent("run.failed", None, error | {"stage": stage_key}),
    ]


def count_after_commit(count: Callable[..., object], *values: object) -> None:
    """Count in a metric once the current transaction is committed, each time that this is called."""
    # Of equal calls only one would be made.
    after_commit(partial(count, *values))


def failed_attempt_json(failure: Failure) -> dict[str, object]:
    """Return what the timeline shows of a failed attempt: the failure, and the text that it broke off, if any.

    The text is kept with the attempt alone: an artifact would be taken for what the stage was to write.
    """
    text = failure.partial_text
    if not text.strip():
        return error_json(failure)
    # Timelines are read a page at a time: an event must not weigh as much as an artifact may.
    return error_json(failure) | {
        "partial_text": text[:MOST_PARTIAL_CHARACTERS],
        "partial_text_cut": len(text) > MOST_PARTIAL_CHARACTERS,
    }


def error_json(failure: Failure) -> dict[str, object]:
    """Return the stored form of a failure."""
    return {"code": failure.code, "message": failure.message, "retryable": not failure.permanent}
