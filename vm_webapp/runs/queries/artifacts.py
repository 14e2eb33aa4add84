"""What can be read of a run's documents."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from vm_webapp.db.pool import Row, rows
from vm_webapp.errors import NotFound
from vm_webapp.runs.queries.reading import read_only, require_run
from vm_webapp.runs.records import ArtifactContent, ArtifactRecord, Usage


@read_only
def list_artifacts(run_id: UUID) -> list[ArtifactRecord]:
    """Return every version of every stage's document, in the order of stages and versions.

    Raises:
        NotFound: there is no such run.
    """
    found = _artifact_rows("a.run_id = %(run_id)s ORDER BY s.position, a.version", run_id=run_id)
    if not found:
        require_run(run_id)
    return [_artifact(artifact) for artifact in found]


@read_only
def read_artifact(run_id: UUID, stage: str, *, version: int | None) -> ArtifactContent:
    """Return one version of a stage's document, the newest where ``version`` is None.

    Raises:
        NotFound: no such run, stage or version.
    """
    found = _artifact_rows(
        """
        a.run_id = %(run_id)s AND s.key = %(stage)s AND (%(version)s IS NULL OR a.version = %(version)s)
        ORDER BY a.version DESC LIMIT 1
        """,
        ", a.content",
        run_id=run_id,
        stage=stage,
        version=version,
    )
    if not found:
        require_run(run_id)
        named = f"version {version} of the document" if version else "a document"
        raise NotFound(f"the stage {stage} of this run does not have {named}")
    content = found[0].pop("content")
    return ArtifactContent(_artifact(found[0]), content)


@read_only
def newest_documents(run_id: UUID) -> dict[str, str]:
    """Return the newest document of each stage that has one: stage key → content."""
    found = rows(
        """
        SELECT DISTINCT ON (s.position) s.key, a.content
          FROM artifacts a JOIN stages s ON s.id = a.stage_id
         WHERE a.run_id = %(run_id)s
         ORDER BY s.position, a.version DESC
        """,
        run_id=run_id,
    )
    return {document["key"]: document["content"] for document in found}


def _artifact_rows(condition: str, further_columns: str = "", **params: Any) -> list[Row]:
    return rows(
        f"""
        SELECT s.key AS stage, a.version, a.name, a.media_type, a.sha256, a.size, a.provider, a.model,
               coalesce(a.prompt_tokens, 0) AS prompt_tokens, coalesce(a.completion_tokens, 0) AS completion_tokens,
               a.truncated, a.created_at {further_columns}
          FROM artifacts a JOIN stages s ON s.id = a.stage_id
         WHERE {condition}
        """,
        **params,
    )


def _artifact(found: Row) -> ArtifactRecord:
    usage = Usage(found.pop("prompt_tokens"), found.pop("completion_tokens"))
    return ArtifactRecord(**found, usage=usage)
