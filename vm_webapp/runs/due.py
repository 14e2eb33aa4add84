"""Which stages an idle worker should take: due, oldest run of the best priority first, and no more than it may."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import rows, transaction
from vm_webapp.runs import admission


@dataclass(frozen=True, slots=True)
class DueStages:
    """An answer of the queue.

    Attributes:
        ids: the stages, in the order in which they should be taken.
        more: whether others are due, or could become so when a call ends: worth asking again at once then.
    """

    ids: tuple[UUID, ...]
    more: bool


def find_due_statement() -> str:
    """Return the query, with parameters ``provider``, ``cap``, ``limit``, ``waited`` (seconds) and ``without`` (ids).

    The rules decide here and in a claim, so that nothing is handed out only to be refused. What they leave room for is
    a LIMIT, and there is one branch for each index: a queue that is held back costs no more than an empty one.
    """
    candidates = f"""
        {admission.admitted_by_its_owner()}
        AND available_at <= clock_timestamp() - %(waited)s * interval '1 second'
        AND id <> ALL(%(without)s::uuid[])
        ORDER BY priority, run_id
    """
    return f"""
        WITH room AS (
            SELECT {admission.room("%(limit)s + 1", calls=True)} AS calls,
                   {admission.room("%(limit)s + 1", calls=False)} AS others
        ), candidates AS (
            (SELECT * FROM stages WHERE needs_model AND {candidates} LIMIT (SELECT calls FROM room))
            UNION ALL
            (SELECT * FROM stages WHERE NOT needs_model AND {candidates} LIMIT (SELECT others FROM room))
        ), fitting AS (
            SELECT id, priority, run_id, {admission.within_owners_rooms("priority, run_id")} AS fits
              FROM candidates AS stages
        )
        SELECT room.calls, room.others, found.id
          FROM room LEFT JOIN (
               SELECT id, priority, run_id FROM fitting WHERE fits
                ORDER BY priority, run_id LIMIT %(limit)s + 1) found ON true
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
        found = rows(
            find_due_statement(),
            provider=provider,
            limit=limit,
            cap=cap,
            without=list(without),
            waited=waited_seconds,
        )
    ids = tuple(stage["id"] for stage in found if stage["id"] is not None)
    # A call that ends may make room for another; no call that ends opens a queue that is paused.
    calls_are_held_back = found[0]["calls"] <= limit < found[0]["others"]
    return DueStages(ids[:limit], more=len(ids) > limit or calls_are_held_back)
