"""What brands have spent of the budget of this day, as ``waiting_on`` tells it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from vm_webapp.db.pool import Row, row, rows
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


_COLUMNS = """day_budget_tokens, day_budget_money, used.tokens::bigint, used.money, time_zone,
           ((statement_timestamp() AT TIME ZONE zone_or_utc(time_zone))::date + 1)::timestamp
           AT TIME ZONE zone_or_utc(time_zone) AS until"""
_READ_ONE = f"SELECT {_COLUMNS} FROM brands CROSS JOIN LATERAL {USED_TODAY} used WHERE id = %(brand_id)s"
_READ = f"""
    SELECT runs.id AS run_id, {_COLUMNS}
      FROM runs JOIN brands ON brands.id = runs.brand_id CROSS JOIN LATERAL {USED_TODAY} used
     WHERE runs.id = ANY(%(run_ids)s::uuid[])
"""


def read_day_budgets(run_ids: Collection[UUID]) -> Mapping[UUID, DayBudget]:
    """Return the budget of each of these runs' brand, inside the current transaction; runs without one are left out."""
    found = {each["run_id"]: _day_budget(each) for each in rows(_READ, run_ids=list(run_ids))}
    return {run_id: budget for run_id, budget in found.items() if budget is not None}


def read_day_budget(brand_id: UUID) -> DayBudget | None:
    """Return the budget of a brand, inside the current transaction; None if it has none, or there is no such brand."""
    found = row(_READ_ONE, brand_id=brand_id)
    return _day_budget(found) if found else None


def _day_budget(found: Row) -> DayBudget | None:
    budget = budget_of(found["day_budget_tokens"], found["day_budget_money"])
    if budget is None:
        return None
    return DayBudget(budget, found["tokens"], found["money"], found["time_zone"], found["until"])
