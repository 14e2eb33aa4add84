"""Which stages an idle worker should claim: due, and no more than the rules of ``admission`` allow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import rows, transaction
from vm_webapp.runs.statements import find_due_stages


@dataclass(frozen=True, slots=True)
class DueStages:
    """Stages that a worker could claim now.

    Attributes:
        ids: the stages, in the order in which they should be claimed.
        more: whether others are due, or may become claimable when a call ends: the worker should then poll again as
            soon as one of its calls ends.
    """

    ids: tuple[UUID, ...]
    more: bool


def find_due(
    provider: str, limit: int, *, cap: int | None, without: Collection[UUID] = (), waited_seconds: float = 0
) -> DueStages:
    """Return stages that a worker could claim now.

    Args:
        provider: the provider that the worker calls.
        limit: how many at most; at least 1.
        cap: most calls of that provider in flight across all workers, None for no limit.
        without: stages to leave out, because the worker has just handed them to its own threads.
        waited_seconds: only stages that have been due for at least this long.

    Raises:
        DatabaseUnavailable: the database did not respond.
    """
    # Nothing is locked, and no FOR UPDATE could last until the claim, which is a transaction of its own on another
    # thread. Two workers may find the same stage; the claim of one of them then finds nothing to claim.
    with transaction(durable=False):
        found = rows(
            find_due_stages(),
            provider=provider,
            limit=limit,
            cap=cap,
            without=list(without),
            waited=waited_seconds,
        )
    ids = tuple(stage["id"] for stage in found if stage["id"] is not None)
    # One more than the limit was asked for. Capacity for that many other stages and for fewer calls means that a rule
    # about calls holds some back; the end of a call may change that. A paused queue leaves no capacity for either.
    calls_are_held_back = found[0]["calls"] <= limit < found[0]["others"]
    return DueStages(ids[:limit], more=len(ids) > limit or calls_are_held_back)
