"""Runs: create, list, read."""

from __future__ import annotations

from aiohttp import web

from api.http.cursors import Cursor
from api.operations.command import Call, command
from api.operations.operation import PREFIX, Answer, operation
from api.schemas.runs import NewRunIn, RunOut, RunPath, RunsOut, RunsQuery, WaitQuery
from api.services import services
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.states import FINAL_RUN_STATUSES


@command("POST", "/runs", summary="Create a run; a worker begins with it at once", status=201)
def create_run(call: Call, body: NewRunIn) -> Answer[RunOut]:
    """Persist the run; its first stage is due."""
    new = lifecycle.NewRun(
        workflow=call.services.catalog.get(body.workflow),
        request=body.request,
        brand_id=body.brand_id,
        project_id=body.project_id,
        auto_approve=body.auto_approve,
        priority=body.priority,
    )
    run = lifecycle.create_run(new, actor=call.actor)
    return Answer(RunOut.model_validate(run), headers={"Location": f"{PREFIX}/runs/{run.id}"})


@operation("GET", "/runs", summary="Runs, newest first")
async def list_runs(request: web.Request, query: RunsQuery) -> Answer[RunsOut]:
    """List a page."""
    after = Cursor.position(query.cursor)
    where = queries.RunFilter(
        query.status,
        query.workflow,
        query.brand_id,
        query.project_id,
        query.finished_after,
        query.finished_before,
    )
    page = await services(request).threads.run(lambda: queries.list_runs(where, limit=query.limit, after=after))
    items = [RunOut.model_validate(run) for run in page.items]
    return Answer(RunsOut(items=items, next_cursor=Cursor.of(page.next_position)))


@operation("GET", "/runs/{run_id}", summary="One run; with wait, as soon as its status changes")
async def read_run(request: web.Request, path: RunPath, query: WaitQuery) -> Answer[RunOut]:
    """Read it, after waiting for a change where that is asked for and still possible."""
    own = services(request)
    if not query.wait:
        return Answer(RunOut.model_validate(await own.threads.run(lambda: queries.get_run(path.run_id))))
    async with own.followers.await_change(path.run_id) as change:
        run = await own.threads.run(lambda: queries.get_run(path.run_id))
        if run.status not in FINAL_RUN_STATUSES:
            await change.wait(run.status, query.wait)
            run = await own.threads.run(lambda: queries.get_run(path.run_id))
    return Answer(RunOut.model_validate(run))
