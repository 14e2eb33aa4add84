"""Lists runs by filters, newest or latest to end first, a page at a time; the cost does not grow with history."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import rows
from vm_webapp.runs.queries.finding import KEYS, Order, find_runs
from vm_webapp.runs.queries.reading import read_only
from vm_webapp.runs.queries.runs import read_page
from vm_webapp.runs.records import RunRecord, RunStatus

ACTIVE: tuple[RunStatus, ...] = ("queued", "running", "waiting_approval")
MOST_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None means any.

    Attributes:
        status: ``active`` is each that has not ended: queued, running or waiting for approval.
        text: words that the request has, all of them, in any order. Phrases and exclusions are not known: the index has
            no places of words, so each run with those words would have to be read.
        error_code: why they failed.
        archived: whether archived runs are listed as well.
    """

    status: RunStatus | Literal["active"] | None = None
    workflow: str | None = None
    brand_id: UUID | None = None
    project_id: UUID | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    text: str | None = None
    error_code: str | None = None
    archived: bool = False


# Among how many runs of each status unarchived ones are counted.
_COUNTED_AMONG = 3_000
# The order is that of an index: without it, PostgreSQL would read all runs in search of a rare status.
_OF_STATUS = "FROM runs WHERE runs.status = wanted.status ORDER BY created_at DESC, id DESC"
_COUNTS = f"""
    SELECT status, least(listed, {MOST_COUNTED})::int AS runs,
           CASE WHEN listed > {MOST_COUNTED} THEN true
                ELSE EXISTS (SELECT 1 {_OF_STATUS} OFFSET {_COUNTED_AMONG} LIMIT 1) END AS more
      FROM unnest(%(statuses)s::text[]) AS wanted(status),
           LATERAL (SELECT count(*) AS listed
                      FROM (SELECT FROM (SELECT archived_at {_OF_STATUS} LIMIT {_COUNTED_AMONG}) AS newest
                             WHERE archived_at IS NULL LIMIT {MOST_COUNTED + 1}) AS shown) AS counted
"""


@dataclass(frozen=True, slots=True)
class Look:
    """A page that took a bounded look.

    Attributes:
        page: the runs.
        until: None if the page has the first of all that match; else only runs were looked at that are newer than this,
            by the time by which they are listed.
    """

    page: Page[RunRecord]
    until: datetime | None


class Count(NamedTuple):
    """How many runs have a status, archived ones aside.

    Attributes:
        runs: how many, ``MOST_COUNTED`` at most.
        more: whether there may be more.
    """

    runs: int
    more: bool


@read_only
def list_runs(
    where: RunFilter, *, limit: int, after: tuple[datetime, UUID] | None, order: Order = "created"
) -> Page[RunRecord]:
    """Return runs, newest first.

    Args:
        where: which ones.
        limit: most runs of the page.
        after: the time by which they are listed and the id of the last run of the page before, None for the first page.
        order: by the creation, or by the end, which leaves out those that have not ended.
    """
    return look_for_runs(where, limit=limit, after=after, order=order, bounded=False).page


@read_only
def look_for_runs(
    where: RunFilter,
    *,
    limit: int,
    after: tuple[datetime, UUID] | None,
    order: Order = "created",
    bounded: bool = True,
) -> Look:
    """Return runs as ``list_runs`` does.

    Args:
        where: as for ``list_runs``, and so are ``limit``, ``after`` and ``order``.
        bounded: whether to look at so few runs that it takes some tens of milliseconds, whatever the filters are.
    """
    values = values_of(where)
    if after is not None:
        values |= {"after_time": after[0], "after_id": after[1]}
    # An index serves the order for one status only.
    statuses = ACTIVE if where.status == "active" else (where.status,)
    parts = [
        find_runs(values | ({"status": status} if status else {}), order, limit + 1, bounded=bounded)
        for status in statuses
    ]
    time = KEYS[order].column_name
    until = max((part.until for part in parts if part.until), default=None)
    # Below the end of one look, the runs of the others would be listed with gaps.
    found = [run for part in parts for run in part.runs if until is None or run[time] >= until]
    found.sort(key=lambda run: (run[time], run["id"]), reverse=True)
    page = page_of(read_page(found[: limit + 1]), limit, lambda run: (getattr(run, time), run.id))
    return Look(page, None if page.next_position else until)


@read_only
def count_by_status() -> dict[RunStatus, Count]:
    """Return how many runs have each status, archived ones aside."""
    statuses = ["queued", "running", "waiting_approval", "completed", "failed", "canceled"]
    return {each["status"]: Count(each["runs"], each["more"]) for each in rows(_COUNTS, statuses=statuses)}


def values_of(where: RunFilter) -> dict[str, Any]:
    """Return the filters that are given by their names."""
    values = {name: value for name, value in asdict(where).items() if value is not None and name != "archived"}
    return values if where.archived else values | {"unarchived": True}
