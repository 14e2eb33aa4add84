"""The workers, by their heartbeats."""

from __future__ import annotations

from aiohttp import web

from api.operations.operation import Answer, operation
from api.schemas.workers import WorkersOut
from api.services import services
from vm_webapp.ops import queue_control


@operation("GET", "/workers", summary="Every worker of the last 24 hours, those that are alive first")
async def list_workers(request: web.Request) -> Answer[WorkersOut]:
    """List them."""
    found = await services(request).threads.run(queue_control.list_workers)
    return Answer(WorkersOut.model_validate({"items": found}))
