"""The page of the audit trail, for admins: who did what to what, from where, with which result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from yarl import URL

from api.auth.actors import require
from api.ui.places import AUDIT
from api.ui.rendering import site_page
from vm_webapp.access.audit.reading import EntryFilter, page_of_entries
from vm_webapp.text import is_storable

LISTED = 50
FILTERS = ("actor", "action", "target", "address", "result")
RESULTS = ("done", "refused")


async def show_audit(request: web.Request) -> web.Response:
    """Show a page of entries, newest first."""
    require(request, "admin")
    values = {name: request.query.get(name, "").strip() for name in FILTERS}
    wrong = {name: "It cannot be found." for name, text in values.items() if not is_storable(text) or len(text) > 200}
    if values["result"] not in ("", *RESULTS):
        wrong["result"] = "Pick one of the list."
    cursor = request.query.get("cursor", "")
    before = int(cursor) if cursor.isascii() and cursor.isdecimal() and len(cursor) < 19 else None

    def read() -> Mapping[str, Any]:
        if wrong:
            return {"entries": (), "next": ""}
        where = EntryFilter(
            actor=values["actor"] or None,
            action=values["action"] or None,
            target=values["target"] or None,
            address=values["address"] or None,
            result=values["result"] or None,
        )
        found = page_of_entries(where, before=before, limit=LISTED)
        given = {name: text for name, text in values.items() if text}
        following = URL(AUDIT).with_query({**given, "cursor": str(found.next_position)})
        return {"entries": found.items, "next": str(following) if found.next_position is not None else ""}

    return await site_page(
        request,
        "audit.html",
        read,
        status=422 if wrong else 200,
        values=values if not wrong else {name: "" if name in wrong else text for name, text in values.items()},
        wrong=wrong,
        results=RESULTS,
        later=before is not None,
    )
