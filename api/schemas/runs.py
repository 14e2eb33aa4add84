"""Models of runs and their stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator

from api.http.values import Instant, Moment, Money, Seconds, refusal
from api.operations.models import Input, Output
from api.operations.pages import PageQuery
from api.schemas.budgets import BudgetIn, BudgetOut
from api.services import SERVICES
from vm_webapp.errors import InvalidInput
from vm_webapp.runs.queries import Order
from vm_webapp.runs.records import Priority, RunStatus, Spent, StageStatus, WaitingOn

WAITS_FOR_NOTHING = ',"waiting_on":null,'
MAX_REQUEST_CHARACTERS = 20_000
MAX_SEARCH_CHARACTERS = 200
Truncated = Annotated[bool, Field(description="the model reached its budget, so the text breaks off")]
Note = Annotated[
    str | None,
    Field(description="what a reader should know of how it was written, such as that the prompt was probably cut"),
]


SearchText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_SEARCH_CHARACTERS),
    Field(description="words that the request has, all of them, in any order"),
]


class NewRunIn(Input):
    """What a new run needs."""

    workflow: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    request: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REQUEST_CHARACTERS)]
    brand_id: UUID | None = Field(
        default=None,
        description="The run keeps a copy of the brand as it is now: later changes of the brand do not reach it."
        " Without it, the project's brand is the run's brand.",
    )
    project_id: UUID | None = Field(
        default=None,
        description="The run keeps a copy of the project as it is now. Its brand must be the run's brand.",
    )
    auto_approve: bool = False
    four_eyes: bool = Field(
        default=False,
        description="Whether somebody else than its creator, with another key, decides its reviews. Not together with"
        " auto_approve, and not on an API that asks for no credentials.",
    )
    priority: Priority = "normal"
    budget: BudgetIn | None = Field(
        default=None,
        description="What the calls of this run may spend. Once it is spent no further call begins: the run fails with"
        " budget_exceeded, and a retry with a higher budget goes on.",
    )

    @field_validator("workflow")
    @classmethod
    def _can_be_run(cls, name: str, info: ValidationInfo) -> str:
        """Refuse an unknown workflow."""
        # Here rather than in the route, so that the caller gets this error together with all others.
        assert info.context is not None
        try:
            info.context[SERVICES].catalog.get(name)
        except InvalidInput as error:
            raise refusal(str(error)) from None
        return name


class RunsQuery(PageQuery):
    """Which runs."""

    status: Literal[RunStatus, "active"] | None = None
    workflow: str | None = None
    brand_id: UUID | None = None
    project_id: UUID | None = None
    finished_after: Instant | None = None
    finished_before: Instant | None = None
    created_after: Instant | None = None
    created_before: Instant | None = None
    text: SearchText | None = None
    archived: bool = Field(default=False, description="whether archived runs are listed as well")
    order: Order = Field(default="created", description="newest first, or latest to end, without those that have not")


class RunPath(Input):
    """A run."""

    run_id: UUID


class WaitQuery(Input):
    """How long to wait for a change of the run's status, in seconds."""

    wait: Seconds = Field(default=0, ge=0, le=30)


class UsageOut(Output):
    """Tokens spent, those of failed calls included as far as the server counted them."""

    prompt_tokens: int
    completion_tokens: int
    uncounted: bool = Field(description="calls used tokens that the model's server did not count: these are left out")


class CostOut(Output):
    """What the calls of models that have a price have cost, those that failed or were abandoned included."""

    money: Money
    currency: str
    estimated: bool = Field(description="some of the tokens are an estimate, since a server sent no usage")


def _in_its_currency(spent: Spent | None, info: ValidationInfo) -> CostOut | None:
    if spent is None:
        return None
    assert info.context is not None
    prices = info.context[SERVICES].settings.model_prices
    # Without a price table nobody knows which currency it was.
    return CostOut(money=spent.money, currency=prices.currency, estimated=spent.estimated) if prices else None


Cost = Annotated[CostOut | None, BeforeValidator(_in_its_currency)]


class ErrorOut(Output):
    """Why something failed."""

    code: str
    message: str
    retryable: bool


class ProgressOut(Output):
    """Completed stages of all."""

    completed: int
    total: int


class WaitingOnOut(Output):
    """Why a run is not moving."""

    kind: str
    detail: str
    since: Moment
    until: Moment | None


@lru_cache(maxsize=1024)  # a page that is read again has the same ones
def _json_of_wait(waiting_on: WaitingOn) -> str:
    return WaitingOnOut.json_of(waiting_on, {})


class ArtifactSummaryOut(Output):
    """The newest version of an artifact."""

    version: int
    name: str
    sha256: str
    size: int
    truncated: Truncated
    note: Note


class StageOut(Output):
    """A stage."""

    key: str
    title: str
    position: int
    status: StageStatus
    attempt: int
    requires_approval: bool
    available_at: Moment | None
    queued_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    error: ErrorOut | None
    provider: str | None
    model: str | None
    usage: UsageOut
    cost: Cost
    artifact: ArtifactSummaryOut | None


class RunOut(Output):
    """A run."""

    id: UUID
    workflow: str
    status: RunStatus
    priority: Priority
    request: str
    four_eyes: bool
    brand_id: UUID | None
    project_id: UUID | None
    parent_run_id: UUID | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    archived_at: Moment | None
    error: ErrorOut | None
    progress: ProgressOut
    usage: UsageOut
    cost: Cost
    budget: BudgetOut | None
    waiting_on: WaitingOnOut | None
    stages: list[StageOut]

    @classmethod
    def json_of(cls, records: Any, context: Mapping[Any, Any]) -> str:
        """Return the JSON of a run; all but what it waits for is written once for as long as it stays the same."""
        if records.reading is None:
            return super().json_of(records, context)
        texts = context[SERVICES].run_texts
        if (parts := texts.get(records.reading)) is None:
            text = super().json_of(replace(records, waiting_on=None), context)
            # No text of anybody contains this: a quotation mark within one is escaped.
            before, _, after = text.partition(WAITS_FOR_NOTHING)
            parts = texts[records.reading] = (before, after)
        before, after = parts
        waiting_on = _json_of_wait(records.waiting_on) if records.waiting_on else "null"
        return f'{before},"waiting_on":{waiting_on},{after}'
