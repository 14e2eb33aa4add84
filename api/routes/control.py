"""A person takes hold of a run: cancel, retry, fork; and takes all of it home."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from api.http.downloads import download
from api.operations.call import Call
from api.operations.command import command
from api.operations.operation import PREFIX, Answer, operation
from api.schemas.control import ForkIn, RetryIn
from api.schemas.runs import RunOut, RunPath
from api.services import services
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.archive import write_archive


@command("POST", "/runs/{run_id}/cancel", summary="Cancel a run; 200 means that it is canceled")
def cancel_run(call: Call, path: RunPath) -> Answer[RunOut]:
    """Cancel it; one that is canceled already stays as it is."""
    lifecycle.cancel_run_if_open(path.run_id, actor=call.actor)
    return Answer(RunOut.model_validate(queries.read_run(path.run_id)))


@command("POST", "/runs/{run_id}/retry", summary="Put a failed run back to work")
def retry_run(call: Call, path: RunPath, body: RetryIn) -> Answer[RunOut]:
    """Put it back, from the stage that failed or from an earlier one."""
    lifecycle.retry_run_if_failed(path.run_id, from_stage=body.from_stage, actor=call.actor)
    return Answer(RunOut.model_validate(queries.read_run(path.run_id)))


@command("POST", "/runs/{run_id}/fork", summary="A new run that takes over the documents before a stage", status=201)
def fork_run(call: Call, path: RunPath, body: ForkIn) -> Answer[RunOut]:
    """Create it; ``parent_run_id`` tells where it comes from."""
    run = lifecycle.fork_run(path.run_id, from_stage=body.from_stage, request=body.request, actor=call.actor)
    return Answer(RunOut.model_validate(run), headers={"Location": f"{PREFIX}/runs/{run.id}"})


@operation(
    "GET",
    "/runs/{run_id}/archive",
    summary="A zip of every version of every document, and the timeline",
    media_type="application/zip",
)
async def read_archive(request: web.Request, path: RunPath) -> web.StreamResponse:
    """Stream it."""
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="run-{path.run_id}.zip"',
    }
    return await download(request, services(request).threads, partial(write_archive, path.run_id), headers)
