"""The route that lists the audit trail."""

from __future__ import annotations

from api.operations.call import Call
from api.operations.pages import PageOut
from api.operations.query import query
from api.schemas.audit import AuditOut, AuditQuery
from vm_webapp.access.audit.reading import EntryFilter, EntryRecord, page_of_entries
from vm_webapp.db.paging import Page


@query("/audit", PageOut[AuditOut], role="admin", summary="Who did what to what, newest first")
def list_audit(call: Call, query: AuditQuery) -> Page[EntryRecord]:
    """List a page of entries; a search that finds little ends a page early."""
    where = EntryFilter(
        query.actor, query.action, query.target, query.address, query.result, since=query.since, until=query.until
    )
    return page_of_entries(where, before=query.cursor, limit=query.limit)
