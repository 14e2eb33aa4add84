"""The route that lists the workers, by their heartbeats."""

from __future__ import annotations

from api.operations.call import Call
from api.operations.pages import PageOut
from api.operations.query import query
from api.schemas.workers import WorkerOut
from vm_webapp.ops import queue_control
from vm_webapp.ops.queue_control import WorkerRecord


@query(
    "/workers",
    PageOut[WorkerOut],
    role="viewer",
    summary="Every worker of the last 24 hours, those that are alive first",
    tag="queue",
)
def list_workers(call: Call) -> tuple[WorkerRecord, ...]:
    """List the workers."""
    return queue_control.list_workers()
