"""Models of the operations that control a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from api.operations.models import Input
from api.schemas.budgets import BudgetIn
from api.schemas.runs import MAX_REQUEST_CHARACTERS

StageKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class RetryIn(Input):
    """Where a failed run goes on, by default with the stage that failed, and its budget from now on."""

    from_stage: StageKey | None = None
    budget: BudgetIn | None = Field(
        default=None,
        description="In place of the run's budget, if it has one, and for all its calls, those before the retry"
        " included. Without it, the run keeps the budget that it has.",
    )


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
