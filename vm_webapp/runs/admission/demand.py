"""The work that is due, and how much of it the rules would let more workers claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from vm_webapp.db.pool import row
from vm_webapp.db.prepared import Prepared
from vm_webapp.fleet.alive import WorkerGroup
from vm_webapp.runs.admission.conditions import (
    capacities_of_owners,
    least,
    shared,
    with_owners,
    within_owners_capacity,
)
from vm_webapp.runs.admission.rule import due
from vm_webapp.runs.admission.rules import BUDGETS, LIMITS
from vm_webapp.runs.fair_order import order_of


@dataclass(frozen=True, slots=True)
class Demand:
    """The work that is due, without what a budget holds back: that may wait for the next day, and is not late.

    Attributes:
        due: stages that are due, regardless of pauses and caps.
        oldest_due_seconds: for how long the oldest of them has been due; 0 if none is due.
        claimable: those that may be claimed now, or when a pause that ends by itself is over.
        stopped: whether a person must act before stages that need a model, or any, are claimed again.
    """

    due: int
    oldest_due_seconds: float
    claimable: int
    stopped: bool


def read_demand(groups: Iterable[WorkerGroup]) -> Demand:
    """Count the stages that the rules would let more workers claim, inside the current transaction.

    Args:
        groups: the worker groups that could grow, at least one; the group that could claim the most counts.
    """
    demands = [_demand_of(group) for group in groups]
    return replace(max(demands, key=lambda demand: demand.claimable), stopped=all(demand.stopped for demand in demands))


def _demand_of(group: WorkerGroup) -> Demand:
    found = row(_demand(), provider=group.provider, cap=group.cap)
    assert found is not None
    return Demand(**found)


@cache
def _demand() -> Prepared:
    capacities = {calls: [rule.capacity_for_more_workers for rule in shared(calls=calls)] for calls in (True, False)}
    lasting = [f"({rule.lasting})" for rule in LIMITS if rule.lasting is not None]
    # Unlike the query for due stages, this one counts the whole queue: its length is what more workers are wanted for.
    # Only stages of owners with a limit are numbered, and none are read twice where no owner has one.
    limits = [f"{rule.capacity_for_stage} IS NOT NULL" for rule in with_owners()]
    limited = f"({' OR '.join(limits) or 'false'})"
    admitted = " AND ".join([due(), *(f"NOT {budget.holds_back}" for budget in BUDGETS)])
    return Prepared(
        f"""
        WITH {capacities_of_owners()}
        SELECT due, coalesce(extract(epoch FROM clock_timestamp() - oldest), 0)::float8 AS oldest_due_seconds,
               ({least("calls", capacities[True])} + {least("others", capacities[False])})::int AS claimable,
               {" OR ".join(lasting)} AS stopped
          FROM (SELECT count(*) AS due, min(available_at) AS oldest,
                       count(*) FILTER (WHERE needs_model AND fits) AS calls,
                       count(*) FILTER (WHERE NOT needs_model AND fits) AS others
                  FROM (SELECT needs_model, available_at, true AS fits FROM stages WHERE {admitted} AND NOT {limited}
                        UNION ALL
                        SELECT needs_model, available_at, {within_owners_capacity(order_of())}
                          FROM stages WHERE {admitted} AND {limited}) each_stage) counted
        """
    )
