"""Routes that create, list and read runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from api.auth.actors import ACTOR
from api.http.cursors import Cursor
from api.http.request_metrics import HELD
from api.operations.call import Call
from api.operations.command import Joint, command
from api.operations.operation import PREFIX, JsonResponse
from api.operations.pages import PageOut
from api.operations.query import Found, query
from api.schemas.runs import NewRunIn, RunOut, RunPath, RunsQuery, WaitQuery
from api.services import services
from vm_webapp.db.paging import Page
from vm_webapp.errors import NotFound
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.records import RunRecord
from vm_webapp.runs.states import FINAL_RUN_STATUSES


def _prepare(call: Call, body: NewRunIn) -> tuple[lifecycle.PreparedRun, Call] | None:
    """Return a run that can be created with others: nothing has to be locked or counted before."""
    new = _new_run(call, body)
    return None if new.has_context or call.run_quota else (lifecycle.prepare_run(new, call.actor), call)


def _create_all(asked: Sequence[tuple[lifecycle.PreparedRun, Call]]) -> list[JsonResponse[RunOut]]:
    """Store the runs."""
    runs = lifecycle.create_runs([prepared for prepared, _ in asked])
    return [_created(call, run) for (_, call), run in zip(asked, runs, strict=True)]


@command(
    "POST",
    "/runs",
    role="editor",
    summary="Create a run; a worker begins with it at once",
    status=201,
    joint=Joint(_prepare, _create_all),
)
def create_run(call: Call, body: NewRunIn) -> JsonResponse[RunOut]:
    """Store the run; its first stage is due at once."""
    return _created(call, lifecycle.create_run(_new_run(call, body), actor=call.actor, quota=call.run_quota))


def _new_run(call: Call, body: NewRunIn) -> lifecycle.NewRun:
    return lifecycle.NewRun(
        workflow=call.services.catalog.get(body.workflow),  # cannot fail: the body's validator has looked it up
        request=body.request,
        brand_id=body.brand_id,
        project_id=body.project_id,
        auto_approve=body.auto_approve,
        four_eyes=body.four_eyes,
        priority=body.priority,
        budget=body.budget.budget() if body.budget else None,
    )


def _created(call: Call, run: RunRecord) -> JsonResponse[RunOut]:
    return JsonResponse(
        RunOut.model_validate(run, context=call.context), headers={"Location": f"{PREFIX}/runs/{run.id}"}
    )


@query("/runs", PageOut[RunOut], role="viewer", summary="Runs, newest first", shared=True)
def list_runs(call: Call, query: RunsQuery) -> Page[RunRecord]:
    """List a page."""
    where = queries.RunFilter(**query.model_dump(exclude={"limit", "cursor", "order"}))
    return queries.list_runs(where, limit=query.limit, after=Cursor.position(query.cursor), order=query.order)


async def _wait_for_change(
    request: web.Request, read: Callable[[], Awaitable[Found]], *, path: RunPath, query: WaitQuery
) -> Found:
    """Wait for a change of the run's status, if the caller asks for that and the status can still change."""
    if not query.wait:
        return await read()
    own = services(request)
    request[HELD] = True
    # Followed before the read: a change that commits between the two ends the wait.
    with own.open_streams.hold(request[ACTOR]) as held:
        async with own.followers.await_change(path.run_id) as change:
            held.on_end(change)
            found = await read()
            if found.records.status in FINAL_RUN_STATUSES:
                return found
            await change.wait(found.records.status, query.wait)
        held.refuse_if_ended()
    # Read again: the waiter has learnt of a new status at most, and the response holds the whole run.
    return await read()


def _read_runs(asked: Sequence[dict[str, Any]]) -> list[RunRecord | NotFound]:
    ids = [arguments["path"].run_id for arguments in asked]
    found = {run.id: run for run in queries.read_runs(set(ids))}
    return [found.get(id) or queries.no_run(id) for id in ids]


@query(
    "/runs/{run_id}",
    RunOut,
    role="viewer",
    summary="One run; with wait, as soon as its status changes",
    around=_wait_for_change,
    joint=_read_runs,
)
def read_run(call: Call, path: RunPath, query: WaitQuery) -> RunRecord:
    """Read one run."""
    return queries.get_run(path.run_id)
