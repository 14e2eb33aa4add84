"""Finds all runs that match filters, wherever they are, for what is done with all of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.db.pool import rows
from vm_webapp.runs.queries.finding import conditions_of
from vm_webapp.runs.queries.listing import ACTIVE, RunFilter, values_of
from vm_webapp.runs.queries.reading import read_only
from vm_webapp.runs.records import RunStatus

MOST_MATCHING = 10_000  # are counted


@dataclass(frozen=True, slots=True)
class Matching:
    """Runs that match.

    Attributes:
        ids: the oldest of them.
        count: how many they are, ``MOST_MATCHING`` at most.
        more: whether they are more than that; ``ids`` are then any of them.
    """

    ids: tuple[UUID, ...]
    count: int
    more: bool


@read_only
def find_matching(
    where: RunFilter, statuses: Collection[RunStatus], *, archived: bool | None = None, limit: int
) -> Matching:
    """Return how many runs match, and which are the oldest of them.

    Args:
        where: which runs.
        statuses: only those that have one of these.
        archived: only those that are, or are not, archived; None for both, as far as ``where`` has them.
        limit: most ids.
    """
    named = {None: statuses, "active": ACTIVE}.get(where.status, (where.status,))
    wanted = [status for status in named if status in statuses]
    values = {name: value for name, value in values_of(where).items() if name != "status"}
    conditions = [conditions_of(values), "status = ANY(%(statuses)s)"]
    if archived is not None:
        conditions.append(f"archived_at IS {'NOT ' if archived else ''}NULL")
    found = rows(
        f"""
        WITH fitting AS MATERIALIZED (SELECT id FROM runs WHERE {" AND ".join(conditions)} LIMIT {MOST_MATCHING + 1})
        SELECT (SELECT count(*) FROM fitting)::int AS count,
               ARRAY(SELECT id FROM fitting ORDER BY id LIMIT %(limit)s) AS ids
        """,
        statuses=wanted,
        limit=limit,
        **values,
    )[0]
    return Matching(tuple(found["ids"]), min(found["count"], MOST_MATCHING), found["count"] > MOST_MATCHING)
