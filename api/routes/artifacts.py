"""Routes of a run's artifacts."""

from __future__ import annotations

from aiohttp import web

from api.http.etags import is_known
from api.operations.call import Call
from api.operations.headers import ARTIFACT_VERSION, ETAG, IF_NONE_MATCH
from api.operations.pages import PageOut
from api.operations.query import query
from api.schemas.artifacts import ArtifactOut, ArtifactPath, VersionQuery
from api.schemas.runs import RunPath
from vm_webapp.runs import queries
from vm_webapp.runs.records import ArtifactContent, ArtifactRecord


@query(
    "/runs/{run_id}/artifacts", PageOut[ArtifactOut], role="viewer", summary="Every version of every artifact of a run"
)
def list_artifacts(call: Call, path: RunPath) -> list[ArtifactRecord]:
    """List the versions without their content."""
    return queries.list_artifacts(path.run_id)


def _content(request: web.Request, found: ArtifactContent) -> web.Response:
    """Return the content, or 304 if the caller already has it."""
    artifact = found.artifact
    # A version never changes, so its digest is its tag. The default version does change: caches must revalidate.
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "X-Artifact-Version": str(artifact.version),
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",  # a model wrote the text: a browser must never run it as a page
    }
    if is_known(request, etag):
        return web.Response(status=304, headers=headers)
    return web.Response(text=found.content, content_type=artifact.media_type, charset="utf-8", headers=headers)


@query(
    "/runs/{run_id}/artifacts/{stage}",
    None,
    role="viewer",
    summary="An artifact's content; the newest version by default",
    also=(304,),
    meanings={304: "The caller has this version already."},
    media_type="text/markdown",
    accepts=(IF_NONE_MATCH,),
    returns=(ETAG, ARTIFACT_VERSION),
    respond=_content,
)
def read_artifact(call: Call, path: ArtifactPath, query: VersionQuery) -> ArtifactContent:
    """Read an artifact with its content."""
    return queries.read_artifact(path.run_id, path.stage, version=query.version)
