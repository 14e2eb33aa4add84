"""A person decides about a draft."""

from __future__ import annotations

from aiohttp import web

from api.http.cursors import Cursor
from api.operations.command import Call, command
from api.operations.operation import Answer, operation
from api.schemas.pages import PageQuery
from api.schemas.reviews import ApprovalOut, ApprovalsOut, ApproveIn, RequestChangesIn, StagePath
from api.schemas.runs import RunOut
from api.services import services
from vm_webapp.runs import lifecycle, queries


@command("POST", "/runs/{run_id}/stages/{key}/approve", summary="Accept a draft, as it is or as edited")
def approve_stage(call: Call, path: StagePath, body: ApproveIn) -> Answer[RunOut]:
    """Accept the draft that was read; another one by now is a conflict."""
    lifecycle.approve_stage_if_waiting(
        path.run_id,
        path.key,
        artifact_sha256=body.artifact_sha256,
        content=body.content,
        note=body.note,
        actor=call.actor,
    )
    return Answer(RunOut.model_validate(queries.read_run(path.run_id)))


@command("POST", "/runs/{run_id}/stages/{key}/request-changes", summary="Send a draft back with feedback")
def request_changes(call: Call, path: StagePath, body: RequestChangesIn) -> Answer[RunOut]:
    """Send the draft that was read back; another one by now is a conflict."""
    lifecycle.request_changes_if_waiting(
        path.run_id, path.key, artifact_sha256=body.artifact_sha256, feedback=body.feedback, actor=call.actor
    )
    return Answer(RunOut.model_validate(queries.read_run(path.run_id)))


@operation("GET", "/approvals", summary="Every draft that waits for a person, oldest first")
async def list_approvals(request: web.Request, query: PageQuery) -> Answer[ApprovalsOut]:
    """List a page."""
    after = Cursor.position(query.cursor)
    page = await services(request).threads.run(lambda: queries.list_approvals(limit=query.limit, after=after))
    return Answer(
        ApprovalsOut(
            items=[ApprovalOut.model_validate(item) for item in page.items],
            next_cursor=Cursor.of(page.next_position),
        )
    )
