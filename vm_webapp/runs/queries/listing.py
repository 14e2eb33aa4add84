"""Lists runs by filters, newest or latest to end first, a page at a time; the cost does not grow with history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

from peewee import Tuple, fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Run
from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import Row, rows
from vm_webapp.db.prepared import Prepared, prepared
from vm_webapp.runs.queries.reading import read_only
from vm_webapp.runs.queries.runs import COLUMNS, records_of
from vm_webapp.runs.records import RunRecord, RunStatus

Order = Literal["created", "finished"]
ACTIVE: tuple[RunStatus, ...] = ("queued", "running", "waiting_approval")
MOST_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None means any.

    Attributes:
        status: ``active`` is each that has not ended: queued, running or waiting for approval.
        text: words that the request has, all of them, in any order. Phrases and exclusions are not known: the index has
            no places of words, so each run with those words would have to be read.
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
    archived: bool = False


# Each of the first four has an index that ends in (created_at DESC, id DESC), which serves the order as well, and
# ``finished_at`` has one. The row comparisons become ranges of those indexes; written with OR, PostgreSQL would filter
# all newer runs one by one.
_IN_AN_INDEX = ("project_id", "brand_id", "status", "workflow")
_CONDITIONS = {
    "project_id": Run.project == param("project_id"),
    "brand_id": Run.brand == param("brand_id"),
    "status": Run.status == param("status"),
    "workflow": Run.workflow == param("workflow"),
    "finished_after": Run.finished_at >= param("finished_after"),
    "finished_before": Run.finished_at < param("finished_before"),
    "created_after": Run.created_at >= param("created_after"),
    "created_before": Run.created_at < param("created_before"),
    "unarchived": Run.archived_at.is_null(),
}
_RANGES: Mapping[Order, frozenset[str]] = {
    "created": frozenset({"created_after", "created_before"}),
    "finished": frozenset({"finished_after", "finished_before"}),
}
_KEYS = {"created": Run.created_at, "finished": Run.finished_at}
_BY_ID = prepared(COLUMNS.where(Run.id == fn.ANY(param("ids").cast("uuid[]"))))
# How many runs are looked at, one by one, for those that pass filters which the index in use does not hold. Making the
# words of a request costs far more than comparing a column.
_LOOKED_AT, _LOOKED_AT_FOR_TEXT = 5_000, 1_000
_SQL = {
    "project_id": "project_id = %(project_id)s",
    "brand_id": "brand_id = %(brand_id)s",
    "status": "status = %(status)s",
    "workflow": "workflow = %(workflow)s",
    "finished_after": "finished_at >= %(finished_after)s",
    "finished_before": "finished_at < %(finished_before)s",
    "created_after": "created_at >= %(created_after)s",
    "created_before": "created_at < %(created_before)s",
    "text": "to_tsvector('simple', request) @@ plainto_tsquery('simple', %(text)s)",
    "unarchived": "archived_at IS NULL",
}
# The order is that of an index: without it, PostgreSQL would read all runs in search of a rare status.
_COUNTS = f"""
    SELECT status, (SELECT count(*) FROM (SELECT 1 FROM runs WHERE runs.status = wanted.status AND archived_at IS NULL
                                           ORDER BY created_at DESC, id DESC LIMIT {MOST_COUNTED + 1}) AS counted) AS n
      FROM unnest(%(statuses)s::text[]) AS wanted(status)
"""


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
    values = {name: value for name, value in asdict(where).items() if value is not None and name != "archived"}
    if after is not None:
        values |= {"after_time": after[0], "after_id": after[1]}
    if not where.archived:
        values["unarchived"] = True
    found: list[Row] = []
    # An index serves the order for one status only.
    for status in ACTIVE if where.status == "active" else (where.status,):
        found += _found(values | ({"status": status} if status else {}), order, limit + 1)
    time = _KEYS[order].column_name
    found.sort(key=lambda run: (run[time], run["id"]), reverse=True)
    return page_of(records_of(found[: limit + 1]), limit, lambda run: (getattr(run, time), run.id))


@read_only
def count_by_status() -> dict[RunStatus, int]:
    """Return how many runs have each status, archived ones aside; a number above ``MOST_COUNTED`` means more."""
    statuses = ["queued", "running", "waiting_approval", "completed", "failed", "canceled"]
    return {each["status"]: each["n"] for each in rows(_COUNTS, statuses=statuses)}


def _found(values: Mapping[str, Any], order: Order, most: int) -> list[Row]:
    """Return the first runs that pass all filters, in any order."""
    names = frozenset(values) - {"after_id"}
    indexed = [name for name in _IN_AN_INDEX if name in names][:1] if order == "created" else []
    served = {*indexed, *_RANGES[order], "after_time"}
    if names <= served | {"unarchived"}:
        return rows(_page_query(names, order), limit=most, **values)
    # 1. The newest runs of the best index: where many pass the other filters, the page is soon full.
    # 2. If it is not full then, few pass, at least of the newest: PostgreSQL finds them all by any indexes, and sorts.
    # As one statement PostgreSQL would choose by estimates, which take filters for independent: for two words that are
    # frequent and never occur together it would look at every run.
    found = rows(_first_of_newest(names & served, names - served, order), limit=most, **values)
    if len(found) < most:
        found = rows(_first_of_all(names, order), limit=most, **values)
    return rows(_BY_ID, ids=[each["id"] for each in found])


@lru_cache(maxsize=128)  # every combination of filters
def _page_query(names: frozenset[str], order: Order) -> Prepared:
    """Return the query for a page of runs that an index holds in their order."""
    key = _KEYS[order]
    conditions = [condition for name, condition in _CONDITIONS.items() if name in names]
    if "after_time" in names:
        conditions.append(Tuple(key, Run.id) < Tuple(param("after_time"), param("after_id")))
    if order == "finished":
        conditions.append(key.is_null(False))
    query = COLUMNS.where(*conditions) if conditions else COLUMNS
    return prepared(query.order_by(key.desc(), Run.id.desc()).limit(param("limit")))


def _first_of_newest(served: frozenset[str], others: frozenset[str], order: Order) -> str:
    key, looked_at = _KEYS[order].column_name, _LOOKED_AT_FOR_TEXT if "text" in others else _LOOKED_AT
    # Those that were created later had not ended by then.
    bound = "created_at < %(finished_before)s" if order == "created" and "finished_before" in others else "true"
    return f"""
        SELECT id FROM (SELECT * FROM runs WHERE {_all_of(served, order)} AND {bound}
                         ORDER BY {key} DESC, id DESC LIMIT {looked_at}) AS newest
         WHERE {_all_of(others)} ORDER BY {key} DESC, id DESC LIMIT %(limit)s
    """


def _first_of_all(names: frozenset[str], order: Order) -> str:
    key = _KEYS[order].column_name
    return f"""
        WITH fitting AS MATERIALIZED (SELECT id, {key} FROM runs WHERE {_all_of(names, order)})
        SELECT id FROM fitting ORDER BY {key} DESC, id DESC LIMIT %(limit)s
    """


def _all_of(names: frozenset[str], order: Order | None = None) -> str:
    """Return the conditions as SQL, with those of an order if one is given."""
    return " AND ".join(_texts(names, order)) or "true"


def _texts(names: frozenset[str], order: Order | None) -> Iterator[str]:
    yield from (text for name, text in _SQL.items() if name in names)
    if order == "finished":
        yield "finished_at IS NOT NULL"
    if order is not None and "after_time" in names:
        yield f"({_KEYS[order].column_name}, id) < (%(after_time)s, %(after_id)s)"
