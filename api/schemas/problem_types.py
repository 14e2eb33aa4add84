"""Models of the types of problems."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from api.operations.models import Input, Output


class ProblemTypePath(Input):
    """A type of problem."""

    name: str


class ProblemTypeOut(Output):
    """What a type of problem means, and what to do about it."""

    type: str = Field(validation_alias="uri")
    title: str
    status: int | None = Field(description="null if several statuses have it")
    meaning: str
    remedy: str
    members: dict[str, Any] = Field(description="members of the problem that only this type has: their schemas")
