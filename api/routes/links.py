"""Where responses lead: from a run to its events, artifacts and decisions, from a page to the next one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api.operations.openapi import Link
from api.operations.pages import PageOut
from api.schemas.artifacts import ArtifactOut
from api.schemas.audit import AuditOut
from api.schemas.brands import BRANDS
from api.schemas.events import EventOut
from api.schemas.projects import PROJECTS
from api.schemas.resources import ResourceType
from api.schemas.reviews import ApprovalOut
from api.schemas.runs import RunOut
from api.schemas.sessions import SessionOut

NEXT = "The next page, unless `next_cursor` is null."


def _of_run(operation: str, description: str, body: dict[str, Any] | None = None, **more: str) -> Link:
    return Link(operation, description, {"run_id": "$response.body#/id"} | more, body or {})


_RUN = (
    _of_run("read_run", "The run as it is now."),
    _of_run("list_events", "Its timeline, as pages or as a stream."),
    _of_run("list_artifacts", "What it has written so far."),
    _of_run("read_artifact", "The text of its first stage.", stage="$response.body#/stages/0/key"),
    _of_run("read_archive", "All of it as a zip."),
    _of_run(
        "approve_stage",
        "Accept the draft of its first stage, while the run waits for approval.",
        {"artifact_sha256": "$response.body#/stages/0/artifact/sha256"},
        key="$response.body#/stages/0/key",
    ),
    _of_run(
        "request_changes",
        "Send the draft of its first stage back, while the run waits for approval.",
        {"artifact_sha256": "$response.body#/stages/0/artifact/sha256", "feedback": "Shorter, please."},
        key="$response.body#/stages/0/key",
    ),
    _of_run("cancel_run", "Cancel it."),
    _of_run("retry_run", "Put it back to work after it has failed."),
    _of_run(
        "fork_run",
        "A new run that takes over the artifacts before a stage.",
        {"from_stage": "$response.body#/stages/0/key"},
    ),
)


def _to_next_page(operation: str, parameter: str = "cursor", **path: str) -> Link:
    return Link(operation, NEXT, path | {parameter: "$response.body#/next_cursor"})


def _of_resource(kind: ResourceType) -> tuple[Link, ...]:
    noun, id = kind.noun, {f"{kind.noun}_id": "$response.body#/id"}
    return (
        Link(f"read_{noun}", "It as it is now, with its `ETag`.", id),
        Link(f"change_{noun}", "Change it.", id | {"If-Match": "$response.header.ETag"}),
        Link(f"archive_{noun}", "Archive it.", id),
    )


LINKS: dict[type[BaseModel], tuple[Link, ...]] = {
    RunOut: _RUN,
    PageOut[RunOut]: (_to_next_page("list_runs"),),
    PageOut[EventOut]: (_to_next_page("list_events", "after", run_id="$request.path.run_id"),),
    PageOut[ArtifactOut]: (
        Link(
            "read_artifact",
            "The text of the first one.",
            {"run_id": "$request.path.run_id", "stage": "$response.body#/items/0/stage"},
        ),
    ),
    PageOut[ApprovalOut]: (
        _to_next_page("list_approvals"),
        Link(
            "approve_stage",
            "Accept the draft that has waited longest.",
            {"run_id": "$response.body#/items/0/run_id", "key": "$response.body#/items/0/stage"},
            {"artifact_sha256": "$response.body#/items/0/sha256"},
        ),
    ),
    PageOut[AuditOut]: (_to_next_page("list_audit"),),
    PageOut[SessionOut]: (
        _to_next_page("list_sessions"),
        Link("end_session", "End the newest one.", {"session_id": "$response.body#/items/0/id"}),
    ),
    BRANDS.page: (_to_next_page("list_brands"),),
    PROJECTS.page: (_to_next_page("list_projects"),),
    BRANDS.out: _of_resource(BRANDS),
    PROJECTS.out: _of_resource(PROJECTS),
}
