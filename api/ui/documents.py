"""The page of a document: rendered or as it was written, in any version, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from aiohttp import web

from api.http.problems import RequestError
from api.operations.inputs import read_path
from api.schemas.artifacts import ArtifactPath
from api.services import services
from api.ui.diff import compare
from api.ui.markdown import render_markdown
from api.ui.rendering import site_page
from vm_webapp.runs import queries
from vm_webapp.runs.records import ArtifactContent, ArtifactRecord, RunRecord, StageRecord

RAW = "raw"
LONGEST_VERSION = 9  # digits that always fit PostgreSQL's integer


async def show_document(request: web.Request) -> web.Response:
    """Show a document: ``version`` chooses one, ``compare`` another one to compare it with, ``view=raw`` its source."""
    path = read_path(ArtifactPath, request)
    version, other = version_in(request, "version"), version_in(request, "compare")

    def read() -> Mapping[str, Any]:
        run = queries.read_run(path.run_id)
        stage = stage_of(run, path.stage)
        versions = versions_of(path.run_id, path.stage)
        shown = queries.read_artifact(path.run_id, path.stage, version=version)
        difference = None
        if other is not None:
            difference = compare(queries.read_artifact(path.run_id, path.stage, version=other).content, shown.content)
        is_raw = request.query.get("view") == RAW
        return {
            "run": run,
            "stage": stage,
            "versions": versions,
            "shown": shown.artifact,
            "newest": versions[-1].version,
            "other": other,
            "difference": difference,
            "raw": shown.content if is_raw else None,
            "rendered": None if is_raw or difference else render_markdown(shown.content),
        }

    here = f"/ui/runs/{path.run_id}/documents/{quote(path.stage)}"
    return await site_page(request, "document.html", read, here=here)


async def download_document(request: web.Request) -> web.Response:
    """Send a version of a document as a file."""
    path = read_path(ArtifactPath, request)
    version = version_in(request, "version")
    found: ArtifactContent = await services(request).threads.run(
        lambda: queries.read_artifact(path.run_id, path.stage, version=version)
    )
    # The name is a workflow's, which may have any characters: RFC 5987 carries them as a browser reads them.
    name = quote(found.artifact.name, safe="")
    return web.Response(
        text=found.content,
        content_type=found.artifact.media_type,
        charset="utf-8",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "Cache-Control": "no-store"},
    )


def stage_of(run: RunRecord, key: str) -> StageRecord:
    """Return a stage of a run.

    Raises:
        RequestError: 404; the run has no such stage.
    """
    for stage in run.stages:
        if stage.key == key:
            return stage
    raise RequestError(404, "not_found", "the run has no such stage")


def versions_of(run_id: UUID, stage: str) -> Sequence[ArtifactRecord]:
    """Return every version of a stage's document, oldest first.

    Raises:
        RequestError: 404; there is none yet.
    """
    found = [each for each in queries.list_artifacts(run_id) if each.stage == stage]
    if not found:
        raise RequestError(404, "not_found", "this document is not written yet")
    return found


def version_in(request: web.Request, name: str) -> int | None:
    """Return the number of a version in the query, None if there is none.

    Raises:
        RequestError: 404; it cannot be the number of a version.
    """
    given = request.query.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= LONGEST_VERSION):
        raise RequestError(404, "not_found", "there is no such version")
    return int(given)
