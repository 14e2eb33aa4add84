"""The page of a run."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from api.operations.inputs import read_path
from api.schemas.runs import RunPath
from api.services import services
from api.ui.rendering import site_page
from vm_webapp.runs import queries


async def show_run(request: web.Request) -> web.Response:
    """Show a run and its stages."""
    run_id = read_path(RunPath, request).run_id
    titles = {name: workflow.title for name, workflow in services(request).catalog.workflows.items()}

    def read() -> dict[str, Any]:
        return {"run": queries.read_run(run_id)}

    return await site_page(request, "run.html", read, titles=titles)
