"""Which stages an idle worker should take: due, oldest run of the best priority first, and no more than it may."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import rows, transaction


@dataclass(frozen=True, slots=True)
class DueStages:
    """An answer of the queue.

    Attributes:
        ids: the stages, in the order in which they should be taken.
        more: whether others are due, or could become so when a call ends: worth asking again at once then.
    """

    ids: tuple[UUID, ...]
    more: bool


# The same facts decide here and in a claim (``providers.admit``), so that nothing is handed out only to be refused:
# a paused queue gives nothing; a paused provider nothing or, when its time is over, one probe; a cap what is left.
FIND_DUE = """
WITH provider AS (
    SELECT CASE
               WHEN p.paused_at IS NOT NULL THEN
                   CASE WHEN p.paused_until <= clock_timestamp()
                             AND NOT EXISTS (SELECT 1 FROM stages WHERE lease_token = p.probe_token)
                        THEN 1 ELSE 0 END
               WHEN %(cap)s IS NOT NULL THEN
                   greatest(0, %(cap)s - (SELECT count(*) FROM stages
                                           WHERE status = 'running' AND needs_model AND provider = %(provider)s))
               ELSE %(limit)s + 1
           END AS room
      FROM (VALUES (1)) always LEFT JOIN providers p ON p.name = %(provider)s
), due AS (
    (SELECT id, priority, run_id FROM stages
      WHERE status = 'queued' AND needs_model AND available_at <= clock_timestamp() - %(waited)s * interval '1 second'
        AND id <> ALL(%(without)s::uuid[])
      ORDER BY priority, run_id
      LIMIT least(%(limit)s + 1, (SELECT room FROM provider)))
    UNION ALL
    (SELECT id, priority, run_id FROM stages
      WHERE status = 'queued' AND NOT needs_model
        AND available_at <= clock_timestamp() - %(waited)s * interval '1 second'
        AND id <> ALL(%(without)s::uuid[])
      ORDER BY priority, run_id
      LIMIT %(limit)s + 1)
)
SELECT provider.room, found.id
  FROM provider LEFT JOIN (
       SELECT id, priority, run_id FROM due
        WHERE NOT EXISTS (SELECT 1 FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL)
        ORDER BY priority, run_id
        LIMIT %(limit)s + 1) found ON true
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
