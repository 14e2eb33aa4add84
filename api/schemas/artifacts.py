"""Models of a run's artifacts."""

from __future__ import annotations

from pydantic import Field

from api.http.values import Moment, Whole
from api.operations.models import Input, Output
from api.schemas.runs import Note, RunPath, Truncated, UsageOut


class ArtifactPath(RunPath):
    """A stage's artifact."""

    stage: str


class VersionQuery(Input):
    """Which version; the newest by default."""

    version: Whole | None = Field(default=None, ge=1, lt=2**31)  # the column is an integer; more would be an error 500


class ArtifactOut(Output):
    """One version of an artifact."""

    stage: str
    version: int
    name: str
    media_type: str
    sha256: str
    size: int
    provider: str
    model: str | None
    usage: UsageOut
    truncated: Truncated
    note: Note
    created_at: Moment
