"""The shapes of brands."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from api.http.values import AS_JSON_WHOLE
from api.operations.models import Input
from api.schemas.budgets import BudgetIn, BudgetOut
from api.schemas.resources import Lines, Name, Prose, declare
from vm_webapp.context import brands

Limit = Annotated[
    # The bounds stand next to the number, as in a version: see api/schemas/artifacts.py.
    Annotated[int, Field(ge=1, le=10_000), AS_JSON_WHOLE] | None,
    Field(
        description="How many stages of this brand's runs may run at a time, in all workers; null for any number."
        " Others wait, and runs of other brands overtake them.",
    ),
]

TimeZone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    Field(description="The IANA name of the time zone in which its days begin, such as America/Sao_Paulo."),
]
DayBudget = Annotated[
    BudgetIn | None,
    Field(
        description="What the calls of its runs may spend on a day; null for any sum. Once it is spent, stages that"
        " need a model wait for the next day, which begins at midnight in its time zone.",
    ),
]


class BrandIn(Input):
    """A new brand."""

    name: Name
    voice: Prose = ""
    audience: Prose = ""
    products: Lines
    facts: Lines
    forbidden_words: Lines
    max_running: Limit = None
    time_zone: TimeZone = "UTC"
    day_budget: DayBudget = None


BRANDS = declare(
    "brand",
    brands,
    BrandIn,
    change="What to change; what is left out stays as it is.",
    shown={"day_budget": BudgetOut | None},
)
