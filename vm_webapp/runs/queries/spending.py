"""What a run's calls have used of its budget, counted as admission counts it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from peewee import fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Stage
from vm_webapp.db.pool import row
from vm_webapp.db.prepared import prepared
from vm_webapp.runs.queries.reading import read_only


@dataclass(frozen=True, slots=True)
class Spending:
    """What all calls of a run have used, those that were abandoned included.

    Attributes:
        tokens: prompt and completion tokens together.
        money: in the currency of the price table; 0 where no call had a price.
        estimated: whether some of it is an estimate, since a server sent no usage.
    """

    tokens: int
    money: Decimal
    estimated: bool


_SPENDING = prepared(
    Stage.select(
        fn.coalesce(fn.sum(Stage.spent_tokens), 0).cast("bigint").alias("tokens"),
        fn.coalesce(fn.sum(Stage.spent_money), Decimal(0)).alias("money"),
        fn.coalesce(fn.bool_or(Stage.spent_estimated), False).alias("estimated"),
    ).where(Stage.run == param("run_id"))
)


@read_only
def read_spending(run_id: UUID) -> Spending:
    """Return what the calls of a run have used; nothing for a run that does not exist."""
    found = row(_SPENDING, run_id=run_id)
    assert found is not None  # a sum has one row
    return Spending(**found)
