"""What can be run."""

from __future__ import annotations

from aiohttp import web

from api.operations.operation import Answer, operation
from api.schemas.workflows import WorkflowOut, WorkflowPath, WorkflowsOut
from api.services import services
from vm_webapp.errors import NotFound


@operation("GET", "/workflows", summary="Every workflow that can be run")
async def list_workflows(request: web.Request) -> Answer[WorkflowsOut]:
    """List them."""
    catalog = services(request).catalog
    items = [WorkflowOut.model_validate(workflow) for workflow in catalog.workflows.values()]
    return Answer(WorkflowsOut(items=items, next_cursor=None, problems=list(catalog.problems)))


@operation("GET", "/workflows/{name}", summary="One workflow")
async def read_workflow(request: web.Request, path: WorkflowPath) -> Answer[WorkflowOut]:
    """Read one."""
    workflow = services(request).catalog.workflows.get(path.name)
    if workflow is None:
        raise NotFound(f"there is no workflow {path.name}")
    return Answer(WorkflowOut.model_validate(workflow))
