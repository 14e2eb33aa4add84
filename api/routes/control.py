"""Routes that control a run (cancel, retry, fork) and that download all of it."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from api.http.downloads import download
from api.operations.call import Call
from api.operations.command import command
from api.operations.headers import CONTENT_DISPOSITION
from api.operations.operation import PREFIX, JsonResponse, operation
from api.schemas.control import ForkIn, RetryIn
from api.schemas.runs import RunOut, RunPath
from api.services import services
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.archive import write_archive


@command("POST", "/runs/{run_id}/cancel", role="editor", summary="Cancel a run; 200 means that it is canceled")
def cancel_run(call: Call, path: RunPath) -> JsonResponse[RunOut]:
    """Cancel the run; a canceled one stays unchanged."""
    # False would mean that the run was canceled already, which is a success; a completed run is a conflict.
    lifecycle.cancel_run_if_open(path.run_id, actor=call.actor)
    return JsonResponse(RunOut.model_validate(queries.read_run(path.run_id), context=call.context))


@command("POST", "/runs/{run_id}/retry", role="editor", summary="Put a failed run back to work")
def retry_run(call: Call, path: RunPath, body: RetryIn) -> JsonResponse[RunOut]:
    """Queue the run again, from the stage that failed or from an earlier one."""
    budget = body.budget.budget() if body.budget else None
    lifecycle.retry_run_if_failed(path.run_id, from_stage=body.from_stage, actor=call.actor, budget=budget)
    return JsonResponse(RunOut.model_validate(queries.read_run(path.run_id), context=call.context))


@command(
    "POST",
    "/runs/{run_id}/fork",
    role="editor",
    summary="A new run that takes over the artifacts before a stage",
    status=201,
)
def fork_run(call: Call, path: RunPath, body: ForkIn) -> JsonResponse[RunOut]:
    """Create the run; its ``parent_run_id`` names the original."""
    run = lifecycle.fork_run(
        path.run_id,
        from_stage=body.from_stage,
        request=body.request,
        actor=call.actor,
        refresh_context=body.refresh_context,
        quota=call.run_quota,
    )
    return JsonResponse(
        RunOut.model_validate(run, context=call.context), headers={"Location": f"{PREFIX}/runs/{run.id}"}
    )


@operation(
    "GET",
    "/runs/{run_id}/archive",
    role="viewer",
    summary="A zip of every version of every artifact, and the timeline",
    media_type="application/zip",
    returns=(CONTENT_DISPOSITION,),
)
async def read_archive(request: web.Request, path: RunPath) -> web.StreamResponse:
    """Stream the archive."""
    # An operation rather than a query, because a query's function returns the whole body at once.
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="run-{path.run_id}.zip"',
    }
    return await download(request, services(request).threads, partial(write_archive, path.run_id), headers)
