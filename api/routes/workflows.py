"""Routes of the workflows that can be run."""

from __future__ import annotations

from aiohttp import web

from api.operations.operation import JsonResponse, operation
from api.schemas.workflows import WorkflowOut, WorkflowPath, WorkflowsOut
from api.services import services
from vm_webapp.errors import NotFound


@operation("GET", "/workflows", role="viewer", summary="Every workflow that can be run")
async def list_workflows(request: web.Request) -> JsonResponse[WorkflowsOut]:
    """List the workflows."""
    # From memory, so it needs no thread; and complete, so there is no next page.
    catalog = services(request).catalog
    items = [WorkflowOut.model_validate(workflow) for workflow in catalog.workflows.values()]
    return JsonResponse(WorkflowsOut(items=items, next_cursor=None, problems=list(catalog.problems)))


@operation("GET", "/workflows/{name}", role="viewer", summary="One workflow")
async def read_workflow(request: web.Request, path: WorkflowPath) -> JsonResponse[WorkflowOut]:
    """Read one workflow."""
    workflow = services(request).catalog.workflows.get(path.name)
    if workflow is None:
        raise NotFound(f"there is no workflow {path.name}")
    return JsonResponse(WorkflowOut.model_validate(workflow))
