"""The page of one event of a run, with all that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from aiohttp import web
from pydantic import StringConstraints

from api.http.problems import RequestError
from api.operations.inputs import read_path
from api.schemas.runs import RunPath
from api.ui.rendering import site_page
from api.ui.timeline import entry_of
from vm_webapp.runs import queries


class EventPath(RunPath):
    """An event of a run; its id has as many digits as always fit PostgreSQL's bigint."""

    event_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")]


async def show_event(request: web.Request) -> web.Response:
    """Show an event, and what a failed call had written."""
    path = read_path(EventPath, request)

    def read() -> Mapping[str, Any]:
        run, event = queries.read_run(path.run_id), queries.find_event(path.run_id, int(path.event_id))
        if event is None:
            raise RequestError(404, "not_found", "there is no such event")
        titles = {stage.key: stage.title for stage in run.stages}
        return {"run": run, "entry": entry_of(event, titles), "data": event.data}

    return await site_page(request, "event.html", read)
