"""Models of the usage report."""

from __future__ import annotations

from datetime import date
from typing import Annotated, cast, get_args
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from api.http.values import Day, Money, refusal
from api.operations.models import Input, Output
from vm_webapp.usage.reports import Part

PARTS = get_args(Part)


def _check_parts(text: str) -> str:
    parts = text.split(",")
    if not set(parts) <= set(PARTS):
        raise refusal(f"must be some of {', '.join(PARTS)}, separated by commas")
    return text


class UsageQuery(Input):
    """Which days, and what their usage is told apart by."""

    first: Day | None = Field(default=None, alias="from", description="by default 30 days before the last day")
    last: Day | None = Field(
        default=None,
        alias="to",
        description="by default tomorrow in UTC, which may have begun elsewhere",
    )
    by: Annotated[str, AfterValidator(_check_parts)] = Field(
        default="day",
        description="some of day, brand, workflow and model, separated by commas",
        json_schema_extra={"pattern": f"^({'|'.join(PARTS)})(,({'|'.join(PARTS)}))*$"},
    )

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the usage is told apart by, in the order in which it was asked for."""
        return cast("tuple[Part, ...]", tuple(dict.fromkeys(self.by.split(","))))

    @field_validator("last")
    @classmethod
    def _not_before_the_first(cls, last: date | None, info: ValidationInfo) -> date | None:
        first = info.data.get("first")
        if first is not None and last is not None and last < first:
            raise refusal("must not be before from")
        return last


class UsageRowOut(Output):
    """What calls have used together; null where they are not told apart, and a brand of null for runs without one."""

    day: date | None = Field(description="on which the calls ended, in the brand's time zone, else in UTC")
    brand_id: UUID | None
    brand: str | None = Field(description="the brand's name now")
    workflow: str | None
    model: str | None = Field(description="as KIMI_MODEL has it")
    calls: int
    estimated_calls: int = Field(description="calls whose tokens are an estimate, since the server sent no usage")
    unpriced_calls: int = Field(description="calls of a model without a price, which money leaves out")
    prompt_tokens: int
    completion_tokens: int
    money: Money


class UsageReportOut(Output):
    """What model calls have used, those that failed or were abandoned included."""

    model_config = ConfigDict(serialize_by_alias=True)

    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    currency: str | None = Field(description="of the price table; null without one")
    items: list[UsageRowOut]
