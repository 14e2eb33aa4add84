"""Runs: create, list, read."""

from __future__ import annotations

from aiohttp import web

from actors import execute_stage
from api.openapi import PREFIX
from api.schemas import Cursor, NewRunIn, RunOut, RunPath, RunsOut, RunsQuery, WaitQuery
from api.services import services
from api.typed import Answer, operation
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.records import RunRecord
from vm_webapp.runs.states import FINAL_RUN_STATUSES


@operation("POST", "/runs", summary="Create a run; a worker begins with it at once", status=201, errors=(400, 413, 415))
async def create_run(request: web.Request, body: NewRunIn) -> Answer[RunOut]:
    """Persist the run, then ring for a worker."""
    own = services(request)
    new = lifecycle.NewRun(
        workflow=own.catalog.get(body.workflow),
        request=body.request,
        brand_id=body.brand_id,
        project_id=body.project_id,
        auto_approve=body.auto_approve,
        priority=body.priority,
    )
    actor = request["actor"]

    def create_and_ring() -> RunRecord:
        created = lifecycle.create_run(new, actor=actor)
        for stage_id in created.due_stage_ids:
            execute_stage.send(str(stage_id))
        return created.run

    run = await own.threads.run(create_and_ring)
    return Answer(RunOut.model_validate(run), headers={"Location": f"{PREFIX}/runs/{run.id}"})


@operation("GET", "/runs", summary="Runs, newest first")
async def list_runs(request: web.Request, query: RunsQuery) -> Answer[RunsOut]:
    """List a page."""
    after = Cursor.decode(query.cursor) if query.cursor else None
    where = queries.RunFilter(
        query.status,
        query.workflow,
        query.brand_id,
        query.project_id,
        query.finished_after,
        query.finished_before,
    )
    page = await services(request).threads.run(
        lambda: queries.list_runs(where, limit=query.limit, after=(after.at, after.id) if after else None)
    )
    position = page.next_position
    return Answer(
        RunsOut(
            items=[RunOut.model_validate(run) for run in page.items],
            next_cursor=Cursor(at=position[0], id=position[1]).encode() if position else None,
        )
    )


@operation("GET", "/runs/{run_id}", summary="One run; with wait, as soon as its status changes", errors=(404,))
async def read_run(request: web.Request, path: RunPath, query: WaitQuery) -> Answer[RunOut]:
    """Read it, after waiting for a change where that is asked for and still possible."""
    own = services(request)
    run = await own.threads.run(lambda: queries.get_run(path.run_id))
    if query.wait and run.status not in FINAL_RUN_STATUSES:
        await own.watcher.wait_for_change(path.run_id, run.status, query.wait)
        run = await own.threads.run(lambda: queries.get_run(path.run_id))
    return Answer(RunOut.model_validate(run))
