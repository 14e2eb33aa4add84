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
        more: whether others are due, or could become so when a call ends: the worker should then ask again at once.
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
        without: stages to leave out, because the worker has claimed or queued them itself.
        waited_seconds: only stages that have been due for this long.

    Raises:
        DatabaseUnavailable: nothing is known.
    """
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
    # A call that ends may make room for another; no call that ends opens a queue that is paused.
    calls_are_held_back = found[0]["calls"] <= limit < found[0]["others"]
    return DueStages(ids[:limit], more=len(ids) > limit or calls_are_held_back)
