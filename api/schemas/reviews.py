"""Models of reviews."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

from api.http.values import Moment
from api.operations.models import Input, Output
from api.schemas.runs import Note, RunPath, Truncated

MAX_CONTENT_CHARACTERS = 400_000
MAX_FEEDBACK_CHARACTERS = 20_000

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class StagePath(RunPath):
    """A stage of a run."""

    key: str


class ApproveIn(Input):
    """A draft is accepted, as it is or as edited.

    ``artifact_sha256`` names the draft that was read; ``content`` replaces it and becomes a version of its own.
    """

    artifact_sha256: Sha256
    # Refused if blank, but not stripped: the edited text is stored byte for byte.
    content: Annotated[str, StringConstraints(pattern=r"\S", max_length=MAX_CONTENT_CHARACTERS)] | None = None
    note: Annotated[str, StringConstraints(max_length=MAX_FEEDBACK_CHARACTERS)] | None = None


class RequestChangesIn(Input):
    """A draft is sent back; the next attempt reads it together with the feedback."""

    artifact_sha256: Sha256
    feedback: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_FEEDBACK_CHARACTERS)]


class ApprovalOut(Output):
    """A draft that waits for a person."""

    run_id: UUID
    workflow: str
    request: str
    brand_id: UUID | None
    brand: str | None
    project_id: UUID | None
    stage: str
    title: str
    version: int
    sha256: str
    size: int
    truncated: Truncated
    note: Note
    waiting_since: Moment
    age_seconds: int
