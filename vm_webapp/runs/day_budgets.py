"""What brands have spent of the budget of this day, as ``waiting_on`` tells it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from vm_webapp.db.pool import rows
from vm_webapp.runs.admission import USED_TODAY
from vm_webapp.runs.budget import Budget, budget_of, how_spent


@dataclass(frozen=True, slots=True)
class DayBudget:
    """A brand's budget for the present day.

    Attributes:
        budget: what its runs may spend on a day.
        tokens: what their calls have used on this one.
        money: what they have cost.
        time_zone: IANA name of the zone in which the brand's days begin.
        until: when the next one begins.
    """

    budget: Budget
    tokens: int
    money: Decimal
    time_zone: str
    until: datetime

    @property
    def detail(self) -> str:
        """Say how much of it is spent."""
        spent = how_spent(self.budget, self.tokens, self.money) or "all of it"
        return f"its brand's budget of this day is spent: {spent}; a new day begins at midnight ({self.time_zone})"


_READ = f"""
    SELECT runs.id AS run_id, day_budget_tokens, day_budget_money, used.tokens::bigint, used.money, time_zone,
           ((statement_timestamp() AT TIME ZONE time_zone)::date + 1)::timestamp AT TIME ZONE time_zone AS until
      FROM runs JOIN brands ON brands.id = runs.brand_id CROSS JOIN LATERAL {USED_TODAY} used
     WHERE runs.id = ANY(%(run_ids)s::uuid[])
"""


def read_day_budgets(run_ids: Collection[UUID]) -> Mapping[UUID, DayBudget]:
    """Return the budget of each of these runs' brand, inside the current transaction; runs without one are left out."""
    found = {}
    for each in rows(_READ, run_ids=list(run_ids)):
        budget = budget_of(each["day_budget_tokens"], each["day_budget_money"])
        if budget is not None:
            found[each["run_id"]] = DayBudget(budget, each["tokens"], each["money"], each["time_zone"], each["until"])
    return found
