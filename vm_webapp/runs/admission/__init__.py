"""What may be claimed: the rules that hold a due stage back, each stated once.

The query for due stages, the claim, a run's ``waiting_on``, readiness, the doctor and ``desired_workers`` are all built
from these rules. A further rule, such as a cap for each project, is one more entry of ``RULES``.

The rules are SQL text, because they are pasted into statements that Peewee cannot express
(``vm_webapp/runs/statements/``), and they are evaluated by PostgreSQL, because facts that were read before the claim
may have changed when it happens.
"""

from vm_webapp.runs.admission.conditions import (
    admitted_by_its_owner,
    capacities_of_owners,
    claimants,
    first_of_its_owner,
    held_by,
    may_follow,
    owner_is_limited,
    shared_capacity,
    within_owners_capacity,
)
from vm_webapp.runs.admission.demand import Demand, read_demand
from vm_webapp.runs.admission.rule import due
from vm_webapp.runs.admission.rules import (
    BRAND_BUDGET,
    CALL_IN_FLIGHT,
    CALLS_ARE_COUNTED,
    PROVIDER_IS_PAUSED,
    RULES,
    RUN_BUDGET,
    explanation_of,
    is_pause,
)
from vm_webapp.runs.admission.spending import USED_TODAY

__all__ = [
    "BRAND_BUDGET",
    "CALLS_ARE_COUNTED",
    "CALL_IN_FLIGHT",
    "PROVIDER_IS_PAUSED",
    "RULES",
    "RUN_BUDGET",
    "USED_TODAY",
    "Demand",
    "admitted_by_its_owner",
    "capacities_of_owners",
    "claimants",
    "due",
    "explanation_of",
    "first_of_its_owner",
    "held_by",
    "is_pause",
    "may_follow",
    "owner_is_limited",
    "read_demand",
    "shared_capacity",
    "within_owners_capacity",
]
