"""Retries all runs that failed for one reason: first what would happen, then it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.problems import RequestError
from api.services import services
from api.ui.forms import read_known_fields
from api.ui.places import BULK_RETRY, see_other
from api.ui.rendering import site_page
from api.ui.run_actions import ACTIONS
from api.ui.run_matching import MOST_AT_ONCE, changing
from api.ui.sent_once import ONCE, new_token, send_in_batches
from vm_webapp.runs import queries
from vm_webapp.runs.queries import RunFilter
from vm_webapp.text import is_storable

SHOWN = 10


async def show_bulk_retry(request: web.Request) -> web.Response:
    """Show how many runs a retry would put back to work, and the first of them; nothing changes."""
    require(request, "operator")
    code = _code(request.query.get("code", ""))
    titles = services(request).catalog.titles

    def read() -> Mapping[str, Any]:
        found = _find(code, SHOWN)
        return {"found": found, "runs": queries.read_runs(found.ids)}

    return await site_page(
        request,
        "bulk_retry.html",
        read,
        code=code,
        titles=titles,
        once=new_token(),
        most=MOST_AT_ONCE,
        changed=_number(request.query.get("changed")),
        busy=_number(request.query.get("busy")),
    )


async def bulk_retry(request: web.Request) -> web.Response:
    """Put the runs back to work, the oldest first, a thousand at most."""
    require(request, "operator")
    fields = await read_known_fields(request, {"code", ONCE})
    code, actor = _code(fields.get("code", "")), request[ACTOR]

    def find() -> Sequence[UUID]:
        return _find(code, MOST_AT_ONCE).ids

    done = await send_in_batches(request, fields, find, changing(ACTIONS["retry"], actor))
    return see_other(f"{BULK_RETRY}?code={code}&changed={done.changed}&busy={done.busy}")


def _find(code: str, limit: int) -> queries.Matching:
    where = RunFilter("failed", error_code=code, archived=True)
    return queries.find_matching(where, ACTIONS["retry"].statuses, limit=limit)


def _code(text: str) -> str:
    # The codes of errors are words; what is none can only be a mistake.
    if not text or len(text) > 100 or not is_storable(text) or not text.replace("_", "a").isalnum():
        raise RequestError(404, "not_found", "there is no such reason of failures")
    return text


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 9 else None
