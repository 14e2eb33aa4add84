"""Queries for a run's artifacts."""

from __future__ import annotations

from uuid import UUID

from peewee import fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Artifact, Stage
from vm_webapp.db.pool import Row, row, rows
from vm_webapp.db.prepared import prepared
from vm_webapp.errors import NotFound
from vm_webapp.runs.queries.reading import read_only, require_run
from vm_webapp.runs.records import ArtifactContent, ArtifactRecord, NewestArtifact, Usage

# Without ``content``: a listing must not read megabytes of text to show names and digests.
_SUMMARIES = Artifact.select(
    Stage.key.alias("stage"),
    Artifact.version,
    Artifact.name,
    Artifact.media_type,
    Artifact.sha256,
    Artifact.size,
    Artifact.provider,
    Artifact.model,
    fn.coalesce(Artifact.prompt_tokens, 0).alias("prompt_tokens"),
    fn.coalesce(Artifact.completion_tokens, 0).alias("completion_tokens"),
    # What a person or the offline provider wrote has no model, and a fork's call of what it took over is another run's.
    (
        Stage.spent_estimated
        & Artifact.model.is_null(False)
        & (Artifact.prompt_tokens.is_null() | Artifact.completion_tokens.is_null())
    ).alias("uncounted"),
    Artifact.truncated,
    Artifact.note,
    Artifact.author,
    Artifact.created_at,
).join(Stage)
_LIST = prepared(_SUMMARIES.where(Artifact.run == param("run_id")).order_by(Stage.position, Artifact.version))
_ONE = (
    _SUMMARIES.select_extend(Artifact.content)
    .where(Artifact.run == param("run_id"), Stage.key == param("stage"))
    .order_by(Artifact.version.desc())
    .limit(1)
)
_NEWEST = prepared(_ONE)
_VERSION = prepared(_ONE.where(Artifact.version == param("version")))
# DISTINCT ON keeps the first row of each stage; PostgreSQL demands that ORDER BY begins with the same expression.
_NEWEST_OF_EACH_STAGE = prepared(
    Artifact.select(Stage.key, Artifact.content, Artifact.truncated)
    .join(Stage)
    .where(Artifact.run == param("run_id"))
    .distinct(Stage.position)
    .order_by(Stage.position, Artifact.version.desc())
)


@read_only
def list_artifacts(run_id: UUID) -> list[ArtifactRecord]:
    """Return every version of every stage's artifact, in the order of stages and versions.

    Raises:
        NotFound: there is no such run.
    """
    found = rows(_LIST, run_id=run_id)
    # A second query only in the rare case: an empty list must be distinguished from a run that does not exist.
    if not found:
        require_run(run_id)
    return [_artifact(artifact) for artifact in found]


@read_only
def read_artifact(run_id: UUID, stage: str, *, version: int | None) -> ArtifactContent:
    """Return one version of a stage's artifact, the newest where ``version`` is None.

    Raises:
        NotFound: no such run, stage or version.
    """
    if version is None:
        found = row(_NEWEST, run_id=run_id, stage=stage)
    else:
        found = row(_VERSION, run_id=run_id, stage=stage, version=version)
    if found is None:
        require_run(run_id)
        named = f"version {version} of the artifact" if version else "an artifact"
        raise NotFound(f"the stage {stage} of this run does not have {named}")
    content = found.pop("content")
    return ArtifactContent(_artifact(found), content)


@read_only
def newest_artifacts(run_id: UUID) -> dict[str, NewestArtifact]:
    """Return the newest artifact of each stage that has one, by the stage's key."""
    found = rows(_NEWEST_OF_EACH_STAGE, run_id=run_id)
    return {artifact["key"]: NewestArtifact(artifact["content"], artifact["truncated"]) for artifact in found}


def _artifact(found: Row) -> ArtifactRecord:
    usage = Usage(found.pop("prompt_tokens"), found.pop("completion_tokens"), found.pop("uncounted"))
    return ArtifactRecord(**found, usage=usage)
