"""What the calls of runs have used, counted as admission counts it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from peewee import fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Run, Stage
from vm_webapp.db.pool import row
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.queries.reading import read_only


@dataclass(frozen=True, slots=True)
class Spending:
    """What all calls of one or more runs have used, those that were abandoned included.

    Attributes:
        tokens: prompt and completion tokens together.
        money: in the currency of the price table; 0 where no call had a price.
        estimated: whether some of it is an estimate, since a server sent no usage.
    """

    tokens: int
    money: Decimal
    estimated: bool


_SPENT = Stage.select(
    fn.coalesce(fn.sum(Stage.spent_tokens), 0).cast("bigint").alias("tokens"),
    fn.coalesce(fn.sum(Stage.spent_money), Decimal(0)).alias("money"),
    fn.coalesce(fn.bool_or(Stage.spent_estimated), False).alias("estimated"),
)
_OF_RUN = prepared(_SPENT.where(Stage.run == param("run_id")))
_OF_PROJECT = prepared(
    _SPENT.join(Run).where(Run.project == param("project_id"), Run.created_at >= param("created_after"))
)


@read_only
def read_spending(run_id: UUID) -> Spending:
    """Return what the calls of a run have used; nothing for a run that does not exist."""
    found = row(_OF_RUN, run_id=run_id)
    assert found is not None  # a sum has one row
    return Spending(**found)


@read_only
def read_spending_of_project(project_id: UUID, *, created_after: datetime) -> Spending:
    """Return what the calls of a project's runs have used that were created at this time or later."""
    found = row(_OF_PROJECT, project_id=project_id, created_after=created_after)
    assert found is not None
    return Spending(**found)
