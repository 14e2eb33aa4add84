"""Routes of reviews, in which a person decides about a draft."""

from __future__ import annotations

from api.http.cursors import Cursor
from api.operations.call import Call
from api.operations.command import command
from api.operations.operation import JsonResponse
from api.operations.pages import PageOut, PageQuery
from api.operations.query import query
from api.schemas.reviews import ApprovalOut, ApproveIn, RequestChangesIn, StagePath
from api.schemas.runs import RunOut
from vm_webapp.db.paging import Page
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.queries import Approval


@command(
    "POST",
    "/runs/{run_id}/stages/{key}/approve",
    role="editor",
    summary="Accept a draft, as it is or as edited",
    tag="reviews",
)
def approve_stage(call: Call, path: StagePath, body: ApproveIn) -> JsonResponse[RunOut]:
    """Accept the draft; it is a conflict if the draft has changed since the caller read it."""
    lifecycle.approve_stage_if_waiting(
        path.run_id,
        path.key,
        artifact_sha256=body.artifact_sha256,
        content=body.content,
        note=body.note,
        actor=call.actor,
    )
    # Within the command's transaction, so the response shows the run as this decision left it.
    return JsonResponse(RunOut.model_validate(queries.read_run(path.run_id), context=call.context))


@command(
    "POST",
    "/runs/{run_id}/stages/{key}/request-changes",
    role="editor",
    summary="Send a draft back with feedback",
    tag="reviews",
)
def request_changes(call: Call, path: StagePath, body: RequestChangesIn) -> JsonResponse[RunOut]:
    """Send the draft back; it is a conflict if the draft has changed since the caller read it."""
    lifecycle.request_changes_if_waiting(
        path.run_id, path.key, artifact_sha256=body.artifact_sha256, feedback=body.feedback, actor=call.actor
    )
    return JsonResponse(RunOut.model_validate(queries.read_run(path.run_id), context=call.context))


@query(
    "/approvals",
    PageOut[ApprovalOut],
    role="viewer",
    summary="Every draft that waits for a person, oldest first",
    tag="reviews",
)
def list_approvals(call: Call, query: PageQuery) -> Page[Approval]:
    """List a page."""
    return queries.list_approvals(limit=query.limit, after=Cursor.position(query.cursor))
