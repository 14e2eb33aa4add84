"""Routes of the queue: its figures, pause and resume, and bulk changes of runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from api.operations.call import Call
from api.operations.command import command
from api.operations.operation import JsonResponse
from api.operations.query import query
from api.schemas.queue import BulkArchiveIn, BulkCancelIn, BulkOut, BulkRetryIn, PauseIn, QueueOut
from vm_webapp.ops import bulk, queue_control
from vm_webapp.ops.bulk import BulkFilter, BulkResult
from vm_webapp.ops.queue_control import QueueStatus


@query("/queue", QueueOut, role="viewer", summary="How full the queue is, and who works on it", shared=True)
def read_queue(call: Call) -> QueueStatus:
    """Read the figures."""
    return queue_control.read_queue()


@command("POST", "/queue/pause", role="operator", summary="Stop claiming; stages in flight go on")
def pause_queue(call: Call, body: PauseIn) -> JsonResponse[QueueOut]:
    """Pause claiming; a paused queue stays paused."""
    queue_control.pause_queue(reason=body.reason, actor=call.actor)
    return JsonResponse(QueueOut.model_validate(queue_control.read_queue()))


@command("POST", "/queue/resume", role="operator", summary="Claim again")
def resume_queue(call: Call) -> JsonResponse[QueueOut]:
    """Resume claiming; a queue that is not paused stays unchanged."""
    queue_control.resume_queue(actor=call.actor)
    return JsonResponse(QueueOut.model_validate(queue_control.read_queue()))


@command(
    "POST", "/queue/cancel", role="operator", summary="Cancel the runs that match, a hundred at a time, oldest first"
)
def cancel_runs(call: Call, body: BulkCancelIn) -> JsonResponse[BulkOut]:
    """Cancel the matching runs, or only list them."""
    return JsonResponse(BulkOut.model_validate(_change(bulk.cancel_matching, call, body)))


@command(
    "POST",
    "/queue/retry",
    role="operator",
    summary="Retry the failed runs that match, a hundred at a time, oldest first",
)
def retry_runs(call: Call, body: BulkRetryIn) -> JsonResponse[BulkOut]:
    """Retry the matching runs, or only list them."""
    return JsonResponse(BulkOut.model_validate(_change(bulk.retry_matching, call, body)))


@command(
    "POST",
    "/queue/archive",
    role="editor",
    summary="Archive the final runs that match, a hundred at a time, oldest first; lists leave them out from then on",
)
def archive_runs(call: Call, body: BulkArchiveIn) -> JsonResponse[BulkOut]:
    """Archive the matching runs, or only list them."""
    return JsonResponse(BulkOut.model_validate(_change(partial(bulk.archive_matching, archived=True), call, body)))


@command(
    "POST",
    "/queue/unarchive",
    role="editor",
    summary="Bring the archived runs that match back into lists, a hundred at a time, oldest first",
)
def unarchive_runs(call: Call, body: BulkArchiveIn) -> JsonResponse[BulkOut]:
    """Bring the matching runs back, or only list them."""
    return JsonResponse(BulkOut.model_validate(_change(partial(bulk.archive_matching, archived=False), call, body)))


def _change(
    change: Callable[..., BulkResult], call: Call, body: BulkCancelIn | BulkRetryIn | BulkArchiveIn
) -> BulkResult:
    run_ids = tuple(body.run_ids) if isinstance(body, BulkArchiveIn) and body.run_ids else None
    return change(
        BulkFilter(body.status, body.workflow, body.older_than_seconds, run_ids=run_ids),
        actor=call.actor,
        after=body.after,
        dry_run=body.dry_run,
        workflows=call.services.catalog.workflows,  # a misspelt workflow is an error, one without runs is not
    )
