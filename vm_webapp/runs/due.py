"""Which stages an idle worker should take: due, oldest run of the best priority first, and no more than it may."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import rows, transaction
from vm_webapp.runs.admission import ADMITTED_BY_ITSELF, room


@dataclass(frozen=True, slots=True)
class DueStages:
    """An answer of the queue.

    Attributes:
        ids: the stages, in the order in which they should be taken.
        more: whether others are due, or could become so when a call ends: worth asking again at once then.
    """

    ids: tuple[UUID, ...]
    more: bool


# The rules decide here and in a claim, so that nothing is handed out only to be refused. What they leave room for is a
# LIMIT, and one branch for each index: a queue that is held back costs no more than an empty one.
FIND_DUE = f"""
WITH room AS (
    SELECT {room("%(limit)s + 1", "queue")} AS any_stage, {room("%(limit)s + 1", "queue", "model")} AS model
), due AS (
    (SELECT id, priority, run_id FROM stages
      WHERE needs_model AND {ADMITTED_BY_ITSELF}
        AND available_at <= clock_timestamp() - %(waited)s * interval '1 second'
        AND id <> ALL(%(without)s::uuid[])
      ORDER BY priority, run_id
      LIMIT (SELECT model FROM room))
    UNION ALL
    (SELECT id, priority, run_id FROM stages
      WHERE NOT needs_model AND {ADMITTED_BY_ITSELF}
        AND available_at <= clock_timestamp() - %(waited)s * interval '1 second'
        AND id <> ALL(%(without)s::uuid[])
      ORDER BY priority, run_id
      LIMIT (SELECT any_stage FROM room))
)
SELECT room.model AS room, found.id
  FROM room LEFT JOIN (
       SELECT id, priority, run_id FROM due ORDER BY priority, run_id LIMIT %(limit)s + 1) found ON true
 ORDER BY found.priority, found.run_id
"""


def find_due(
    provider: str, limit: int, *, cap: int | None, without: Collection[UUID] = (), waited_seconds: float = 0
) -> DueStages:
    """Return stages that a worker could claim now.

    Args:
        provider: the provider that the worker calls.
        limit: how many at most; at least 1.
        cap: most calls of that provider in flight across all workers, None for no limit.
        without: stages to leave out, because the asker has them in hand.
        waited_seconds: only stages that have been due for this long.

    Raises:
        DatabaseUnavailable: nothing is known.
    """
    with transaction(durable=False):
        found = rows(FIND_DUE, provider=provider, limit=limit, cap=cap, without=list(without), waited=waited_seconds)
    ids = tuple(stage["id"] for stage in found if stage["id"] is not None)
    return DueStages(ids[:limit], more=len(ids) > limit or found[0]["room"] <= limit)
