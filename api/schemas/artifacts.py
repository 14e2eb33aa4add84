"""The shapes of a run's documents."""

from __future__ import annotations

from pydantic import Field

from api.http.values import Moment, Whole
from api.operations.models import Input, Output
from api.schemas.runs import RunPath, UsageOut


class ArtifactPath(RunPath):
    """A stage's document."""

    stage: str


class VersionQuery(Input):
    """Which version; the newest by default."""

    version: Whole | None = Field(default=None, ge=1, lt=2**31)


class ArtifactOut(Output):
    """One version of a document."""

    stage: str
    version: int
    name: str
    media_type: str
    sha256: str
    size: int
    provider: str
    model: str | None
    usage: UsageOut
    truncated: bool
    created_at: Moment
