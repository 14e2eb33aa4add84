"""Finds the runs of a page by the indexes that there are, in all rows or only as far back as a page may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from peewee import SQL, fn

from vm_webapp.db.compiled import param
from vm_webapp.db.models import Run
from vm_webapp.db.pool import Row, rows
from vm_webapp.db.prepared import Prepared, prepared
from vm_webapp.runs.queries.runs import SHOWN, heads_of

Order = Literal["created", "finished"]
KEYS = {"created": Run.created_at, "finished": Run.finished_at}
# How many runs a page looks at, one by one, for those that pass filters which the index in use does not hold: some tens
# of milliseconds.
LOOKED_AT = 5_000
# Up to which cost, as PostgreSQL estimates it, all runs that match are found at once: about a thousand pages of the
# table, from all over it.
MOST_COST = 5_000
SIZES = (26, 51, 101, 201)

# Each of the first four has an index that ends in (created_at DESC, id DESC), which serves the order as well, and
# ``finished_at`` has one. The row comparisons become ranges of those indexes; written with OR, PostgreSQL would filter
# all newer runs one by one.
_IN_AN_INDEX = ("project_id", "brand_id", "status", "workflow")
_CONDITIONS = {
    "project_id": "project_id = %(project_id)s",
    "brand_id": "brand_id = %(brand_id)s",
    "status": "status = %(status)s",
    "workflow": "workflow = %(workflow)s",
    "finished_after": "finished_at >= %(finished_after)s",
    "finished_before": "finished_at < %(finished_before)s",
    "created_after": "created_at >= %(created_after)s",
    "created_before": "created_at < %(created_before)s",
    "text": "to_tsvector('simple', request) @@ plainto_tsquery('simple', %(text)s)",
    "error_code": "error ->> 'code' = %(error_code)s",
    "unarchived": "archived_at IS NULL",
}
_RANGES: Mapping[Order, frozenset[str]] = {
    "created": frozenset({"created_after", "created_before"}),
    "finished": frozenset({"finished_after", "finished_before"}),
}
# Each word stands in the text as it is: most requests are passed over without their words being made, which takes ten
# times as long.
_HAS_LETTERS = r"""
    lower(request) LIKE ALL (ARRAY(
        SELECT '%%' || regexp_replace(word, '([\\%%_])', '\\\1', 'g') || '%%'
          FROM unnest(tsvector_to_array(to_tsvector('simple', %(text)s))) AS word))
"""
_BY_ID = prepared(heads_of(SHOWN.where(Run.id == fn.ANY(param("ids").cast("uuid[]")))))


@dataclass(frozen=True, slots=True)
class Found:
    """The first runs that pass all filters, in any order.

    Attributes:
        runs: their heads; see ``heads_of``.
        until: None if they are the first of all that match; else the time, by which they are listed, of the last run
            that was looked at: what is older than this may match as well.
    """

    runs: list[Row]
    until: datetime | None = None


def find_runs(values: Mapping[str, Any], order: Order, most: int, *, bounded: bool) -> Found:
    """Find the first runs that pass all filters.

    1. What an index holds in its order is read from it.
    2. Where PostgreSQL expects few matches, it finds them all by any indexes, and sorts.
    3. Otherwise the newest runs of each index of a filter are looked at: where many pass the other filters the page is
       soon full, and an index may have no more than those.
    4. Else all that match are found at any cost, or the page ends where the look did.

    As one statement PostgreSQL would choose by estimates alone, which take filters for independent: for two words that
    are frequent and never occur together it would look at every run.

    Args:
        values: the filters; ``after_time`` and ``after_id`` for where the page begins.
        order: by creation or by end.
        most: how many; there may be some more.
        bounded: whether to end the page where the look ended.
    """
    names = frozenset(values) - {"after_id"}
    indexes = _indexes(values, order)
    served = _served(indexes[0], order)
    others = names - served - {"unarchived"}
    if not others and not (bounded and "unarchived" in names):
        return Found(rows(_page_query(names, order, _planned_for(most)), **values))
    if others and _is_cheap(names, order, most, values):
        return _all(names, order, most, values)
    farthest = Found([])
    for index in indexes:
        found, until = _look(names, _served(index, order), order, most, LOOKED_AT // len(indexes), values)
        if len(found) >= most or until is None:
            return Found(_by_id(found))
        if farthest.until is None or until < farthest.until:
            farthest = Found(found, until)
    if not bounded:
        return _all(names, order, most, values)
    return Found(_by_id(farthest.runs), farthest.until)


def conditions_of(values: Mapping[str, Any]) -> str:
    """Return the filters as SQL."""
    return _all_of(frozenset(values))


def _indexes(values: Mapping[str, Any], order: Order) -> list[str | None]:
    """Return the filters of which an index has the runs in this order; None stands for the index of all runs."""
    if order == "finished":
        return [None]
    return [name for name in _IN_AN_INDEX if name in values] or [None]


def _served(index: str | None, order: Order) -> frozenset[str]:
    return _RANGES[order] | {"after_time"} | ({index} if index else set())


def _by_id(found: list[Row]) -> list[Row]:
    return rows(_BY_ID, ids=[each["id"] for each in found])


def _all(names: frozenset[str], order: Order, most: int, values: Mapping[str, Any]) -> Found:
    return Found(_by_id(rows(_first_of_all(names, order), limit=most, **values)))


def _is_cheap(names: frozenset[str], order: Order, most: int, values: Mapping[str, Any]) -> bool:
    plan = rows(f"EXPLAIN (FORMAT JSON) {_first_of_all(names, order)}", limit=most, **values)
    return bool(plan[0]["QUERY PLAN"][0]["Plan"]["Total Cost"] <= MOST_COST)


def _look(
    names: frozenset[str], served: frozenset[str], order: Order, most: int, looked_at: int, values: Mapping[str, Any]
) -> tuple[list[Row], datetime | None]:
    """Return what the newest runs of an index have, and the time of the last of them if there are more of them."""
    key, range_ = KEYS[order].column_name, _all_of(names & served, order)
    if order == "created" and "finished_before" in names:
        range_ += " AND created_at < %(finished_before)s"  # those that were created later had not ended by then
    passing = _all_of(names - served)
    if "text" in names:
        passing = f"{_HAS_LETTERS} AND {passing}"
    found = rows(
        f"""
        SELECT id FROM (SELECT * FROM runs WHERE {range_} ORDER BY {key} DESC, id DESC LIMIT {looked_at}) AS newest
         WHERE {passing} ORDER BY {key} DESC, id DESC LIMIT %(limit)s
        """,
        limit=most,
        **values,
    )
    if len(found) >= most:
        return found, None
    last = f"SELECT {key} AS time FROM runs WHERE {range_} ORDER BY {key} DESC, id DESC OFFSET {looked_at - 1} LIMIT 2"
    ends = rows(last, **values)  # of the look, and what comes after it
    return found, ends[0]["time"] if len(ends) > 1 else None


def _planned_for(most: int) -> int:
    """Return for how many runs a page of so many is planned: PostgreSQL prepares a query for each of a few sizes."""
    return next((size for size in SIZES if size >= most), most)


@lru_cache(maxsize=512)  # every combination of filters that an index serves, for every size
def _page_query(names: frozenset[str], order: Order, most: int) -> Prepared:
    """Return the query for a page of runs that an index holds in their order.

    The number stands in its text: for a number that it does not know, PostgreSQL expects a tenth of all runs.
    """
    key = KEYS[order]
    query = SHOWN.where(SQL(_all_of(names, order))).order_by(key.desc(), Run.id.desc()).limit(SQL(str(most)))
    return prepared(heads_of(query))


def _first_of_all(names: frozenset[str], order: Order) -> str:
    key = KEYS[order].column_name
    return f"""
        WITH fitting AS MATERIALIZED (SELECT id, {key} FROM runs WHERE {_all_of(names, order)})
        SELECT id FROM fitting ORDER BY {key} DESC, id DESC LIMIT %(limit)s
    """


def _all_of(names: frozenset[str], order: Order | None = None) -> str:
    """Return the conditions as SQL, with those of an order if one is given."""
    return " AND ".join(_texts(names, order)) or "true"


def _texts(names: frozenset[str], order: Order | None) -> Iterator[str]:
    yield from (text for name, text in _CONDITIONS.items() if name in names)
    if order == "finished":
        yield "finished_at IS NOT NULL"
    if order is not None and "after_time" in names:
        yield f"({KEYS[order].column_name}, id) < (%(after_time)s, %(after_id)s)"
