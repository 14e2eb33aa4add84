"""A person takes hold of a run: cancel, retry, fork; and takes all of it home."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from api.operations.command import Call, command
from api.operations.operation import PREFIX, Answer, operation
from api.schemas.control import ForkIn, RetryIn
from api.schemas.runs import RunOut, RunPath
from api.services import services
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.archive import write_archive

WRITE_SECONDS = 60.0


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
    """Stream it; no more than one document is in memory."""
    threads = services(request).threads
    pieces = await threads.run(lambda: write_archive(path.run_id))
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="run-{path.run_id}.zip"',
        }
    )
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    first = await threads.run(lambda: next(pieces))
    await response.prepare(request)
    await _write(response, first)
    while (piece := await threads.run(lambda: _next(pieces))) is not None:
        await _write(response, piece)
    await response.write_eof()
    return response


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    # Whoever stops reading would keep a thread's worth of memory for ever.
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(piece)
