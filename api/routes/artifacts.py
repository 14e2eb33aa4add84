"""A run's documents."""

from __future__ import annotations

from aiohttp import web

from api.operations.operation import Answer, operation
from api.schemas.artifacts import ArtifactOut, ArtifactPath, ArtifactsOut, VersionQuery
from api.schemas.runs import RunPath
from api.services import services
from vm_webapp.runs import queries


@operation("GET", "/runs/{run_id}/artifacts", summary="Every version of every document of a run")
async def list_artifacts(request: web.Request, path: RunPath) -> Answer[ArtifactsOut]:
    """List them without their content."""
    found = await services(request).threads.run(lambda: queries.list_artifacts(path.run_id))
    return Answer(ArtifactsOut(items=[ArtifactOut.model_validate(artifact) for artifact in found]))


@operation(
    "GET",
    "/runs/{run_id}/artifacts/{stage}",
    summary="A document's content; the newest version by default",
    also=(304,),
    media_type="text/markdown",
)
async def read_artifact(request: web.Request, path: ArtifactPath, query: VersionQuery) -> web.Response:
    """Answer the content, or 304 where the caller has it. A version never changes."""
    found = await services(request).threads.run(
        lambda: queries.read_artifact(path.run_id, path.stage, version=query.version)
    )
    artifact = found.artifact
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "X-Artifact-Version": str(artifact.version),
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",  # a model wrote it: no browser may take it for a page
    }
    given = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    if etag in given or "*" in given:
        return web.Response(status=304, headers=headers)
    return web.Response(text=found.content, content_type=artifact.media_type, charset="utf-8", headers=headers)
