"""A run's documents."""

from __future__ import annotations

from aiohttp import web

from api.http.etags import is_known
from api.operations.call import Call
from api.operations.pages import PageOut
from api.operations.query import query
from api.schemas.artifacts import ArtifactOut, ArtifactPath, VersionQuery
from api.schemas.runs import RunPath
from vm_webapp.runs import queries
from vm_webapp.runs.records import ArtifactContent, ArtifactRecord


@query("/runs/{run_id}/artifacts", PageOut[ArtifactOut], summary="Every version of every document of a run")
def list_artifacts(call: Call, path: RunPath) -> list[ArtifactRecord]:
    """List them without their content."""
    return queries.list_artifacts(path.run_id)


def _content(request: web.Request, found: ArtifactContent) -> web.Response:
    """Answer the content, or 304 where the caller has it. A version never changes."""
    artifact = found.artifact
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "X-Artifact-Version": str(artifact.version),
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",  # a model wrote it: no browser may take it for a page
    }
    if is_known(request, etag):
        return web.Response(status=304, headers=headers)
    return web.Response(text=found.content, content_type=artifact.media_type, charset="utf-8", headers=headers)


@query(
    "/runs/{run_id}/artifacts/{stage}",
    None,
    summary="A document's content; the newest version by default",
    also=(304,),
    media_type="text/markdown",
    respond=_content,
)
def read_artifact(call: Call, path: ArtifactPath, query: VersionQuery) -> ArtifactContent:
    """Read it with its content."""
    return queries.read_artifact(path.run_id, path.stage, version=query.version)
