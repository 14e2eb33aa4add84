"""Models of the operations that control a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from api.operations.models import Input
from api.schemas.runs import MAX_REQUEST_CHARACTERS

StageKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class RetryIn(Input):
    """Where a failed run goes on; the stage that failed by default."""

    from_stage: StageKey | None = None


class ForkIn(Input):
    """The first stage that is written anew, and what is wanted instead."""

    from_stage: StageKey
    request: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REQUEST_CHARACTERS)] | None
    ) = Field(default=None)
    refresh_context: bool = Field(
        default=False,
        description="Take brand and project as they are now. By default the new run has them as its parent has them.",
    )
