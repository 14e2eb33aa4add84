"""What model calls have used, added up by day, brand, workflow and model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID

from vm_webapp.db.pool import autocommit, rows
from vm_webapp.errors import InvalidInput

Part = Literal["day", "brand", "workflow", "model"]
MOST_ROWS = 10_000

_COLUMNS: dict[Part, str] = {"day": "day", "brand": "brand_id", "workflow": "workflow", "model": "model"}
# Days and the calls that no day has yet, in one statement: a sum that is made meanwhile moves calls from one to the
# other, and is seen as a whole or not at all.
_CALLS = """
    SELECT day, brand_id, workflow, model, calls, estimated_calls, unpriced_calls, prompt_tokens, completion_tokens,
           money
      FROM usage_days WHERE day BETWEEN %(first)s AND %(last)s {which}
    UNION ALL
    SELECT day, brand_id, workflow, model, 1, estimated::int, (money IS NULL)::int, prompt_tokens, completion_tokens,
           coalesce(money, 0)
      FROM unsummed_calls WHERE day BETWEEN %(first)s AND %(last)s {which}
"""
_OF_BRAND = "AND brand_id = %(brand_id)s"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What calls have used together. The parts by which they are not told apart are None.

    Attributes:
        day: on which they ended, in the time zone of the brand, else in UTC.
        brand_id: the brand of their runs; None as well for runs without one.
        brand: the brand's name now.
        calls: how many they are.
        estimated_calls: those whose tokens are an estimate, since the server sent no usage.
        unpriced_calls: those of a model without a price.
        money: what the others cost, in the currency of the price table.
    """

    day: date | None
    brand_id: UUID | None
    brand: str | None
    workflow: str | None
    model: str | None
    calls: int
    estimated_calls: int
    unpriced_calls: int
    prompt_tokens: int
    completion_tokens: int
    money: Decimal


def read_usage(first: date, last: date, by: Collection[Part], *, brand_id: UUID | None = None) -> list[UsageRow]:
    """Return what calls have used, in the order of the day, brand, workflow and model.

    Args:
        first: the first day.
        last: the last day, included.
        by: what they are told apart by; with nothing there is one row at most.
        brand_id: the brand of their runs; None for all calls.

    Raises:
        InvalidInput: there are more than ``MOST_ROWS``.
    """
    with autocommit():
        found = rows(_query(by, brand_id), first=first, last=last, brand_id=brand_id, most=MOST_ROWS + 1)
    if len(found) > MOST_ROWS:
        raise InvalidInput(f"these are more than {MOST_ROWS} rows: ask for fewer days, or by fewer of {', '.join(by)}")
    return [UsageRow(**row) for row in found]


def _query(by: Collection[Part], brand_id: UUID | None) -> str:
    parts = [column for part, column in _COLUMNS.items() if part in by]
    # NULL in place of a part that is left out, so that every report has the same columns.
    shown = ", ".join(column if column in parts else f"NULL AS {column}" for column in _COLUMNS.values())
    groups = f"GROUP BY {', '.join(parts)}" if parts else "HAVING count(*) > 0"
    return f"""
        WITH used AS (
            SELECT {shown}, sum(calls)::bigint AS calls, sum(estimated_calls)::bigint AS estimated_calls,
                   sum(unpriced_calls)::bigint AS unpriced_calls, sum(prompt_tokens)::bigint AS prompt_tokens,
                   sum(completion_tokens)::bigint AS completion_tokens, sum(money) AS money
              FROM ({_CALLS.format(which=_OF_BRAND if brand_id else "")}) each {groups}
        )
        SELECT used.*, brands.name AS brand FROM used LEFT JOIN brands ON brands.id = brand_id::uuid
         ORDER BY day, brands.name, brand_id, workflow, model LIMIT %(most)s
    """
