"""Models of a run's artifacts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.http.values import AS_WHOLE, Moment
from api.operations.models import Input, Output
from api.schemas.runs import Note, RunPath, Truncated, UsageOut


class ArtifactPath(RunPath):
    """A stage's artifact."""

    stage: str


class VersionQuery(Input):
    """Which version; the newest by default."""

    # The column is an integer; more would be an error 500. The bounds stand next to the number: on the validator, or on
    # the union with None, pydantic would write them as keywords that JSON Schema does not have.
    version: Annotated[int, Field(ge=1, lt=2**31), AS_WHOLE] | None = None


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
