"""Reads the audit trail page by page, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from peewee import JOIN, Expression

from vm_webapp.db.compiled import compiled
from vm_webapp.db.models import AuditEntry, AuditSeal
from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import row, rows, transaction


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """An entry.

    Attributes:
        result: ``done`` or ``refused``.
        position: its place in the chain, None while it is not sealed.
    """

    id: int
    at: datetime
    actor: str
    actor_id: str | None
    role: str | None
    address: str | None
    request_id: str | None
    action: str
    target: str | None
    result: str
    data: dict[str, Any]
    position: int | None


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries; None leaves a field out.

    Attributes:
        since: the earliest time.
        until: the time before which they were made.
    """

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    address: str | None = None
    result: str | None = None
    since: datetime | None = None
    until: datetime | None = None


_COLUMNS = [getattr(AuditEntry, field.name) for field in fields(EntryRecord) if field.name != "position"]


# Of how many ids a page looks at where no index finds the entries: such a search ends in time, however long the trail.
MOST_LOOKED_AT = 100_000
_ENDS = "SELECT coalesce(min(id), 0) AS oldest, coalesce(max(id), 0) AS newest FROM audit_entries"


def page_of_entries(where: EntryFilter, *, before: int | None, limit: int) -> Page[EntryRecord]:
    """Return a page of the entries that match; one that has few entries, or none, need not be the last.

    Args:
        where: which entries.
        before: the id of the last entry of the page before, None for the first page.
        limit: most entries of the page.
    """
    query = (
        AuditEntry.select(*_COLUMNS, AuditSeal.position)
        .join(AuditSeal, JOIN.LEFT_OUTER, on=(AuditSeal.entry_id == AuditEntry.id))
        .where(*_conditions(where, before))
        .order_by(AuditEntry.id.desc())
        .limit(limit + 1)
    )
    with transaction(durable=False):
        end = None if _has_index(where) else _end_of_search(before)
        found = rows(compiled(query if end is None else query.where(AuditEntry.id >= end)))
    page: Page[EntryRecord] = page_of([EntryRecord(**each) for each in found], limit, lambda entry: entry.id)
    return page if page.next_position is not None or end is None else replace(page, next_position=end)


def _has_index(where: EntryFilter) -> bool:
    # An index on actions leaves out what nearly all entries are; see migration 0013.
    rare = where.action is not None and where.action != "run.create"
    return where == EntryFilter() or where.target is not None or where.result == "refused" or rare


def _end_of_search(before: int | None) -> int | None:
    """Return the smallest id that this page looks at; None where it looks at all that are left."""
    ends = row(_ENDS)
    assert ends is not None
    end: int = (before or ends["newest"] + 1) - MOST_LOOKED_AT
    return end if end > ends["oldest"] else None


def _conditions(where: EntryFilter, before: int | None) -> Iterator[Expression | bool]:
    yield AuditEntry.id < before if before is not None else AuditEntry.id > 0
    for name in ("actor", "action", "target", "address", "result"):
        if (value := getattr(where, name)) is not None:
            yield getattr(AuditEntry, name) == value
    if where.since is not None:
        yield AuditEntry.at >= where.since
    if where.until is not None:
        yield AuditEntry.at < where.until
