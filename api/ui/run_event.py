"""The page of one event of a run, with all that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from api.http.problems import RequestError
from api.operations.inputs import read_path
from api.schemas.runs import RunPath
from api.ui.rendering import site_page
from api.ui.timeline import entry_of
from vm_webapp.runs import queries

LONGEST_ID = 18  # digits that always fit PostgreSQL's bigint


async def show_event(request: web.Request) -> web.Response:
    """Show an event, and what a failed call had written."""
    run_id, given = read_path(RunPath, request).run_id, request.match_info["event_id"]
    if not (given.isascii() and given.isdecimal() and len(given) <= LONGEST_ID):
        raise RequestError(404, "not_found", "there is no such event")

    def read() -> Mapping[str, Any]:
        run, event = queries.read_run(run_id), queries.find_event(run_id, int(given))
        if event is None:
            raise RequestError(404, "not_found", "there is no such event")
        titles = {stage.key: stage.title for stage in run.stages}
        return {"run": run, "entry": entry_of(event, titles), "data": event.data}

    return await site_page(request, "event.html", read)
