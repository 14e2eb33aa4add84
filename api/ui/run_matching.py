"""What is done with all runs that match the filters of the list: first how many they are, then the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.problems import RequestError
from api.services import services
from api.ui.forms import read_known_fields
from api.ui.places import MATCHING, RUNS, see_other
from api.ui.rendering import site_page
from api.ui.run_actions import Action, action_of
from api.ui.run_filters import Wanted, read_filters
from api.ui.run_list import DONE
from api.ui.sent_once import ONCE, Changed, new_token, send_in_batches
from vm_webapp.access.actor import Actor
from vm_webapp.ops.bulk import BulkFilter
from vm_webapp.runs import queries
from vm_webapp.runs.queries import RunFilter

MOST_AT_ONCE = 1_000
SHOWN = 10


async def show_matching(request: web.Request) -> web.Response:
    """Show how many runs it would happen to, and the first of them; nothing changes."""
    require(request, "editor")
    name, action = request.query.get("action", ""), action_of(request.query.get("action", ""))
    require(request, action.role)
    wanted = _wanted(request.query.get("query", ""))
    seen = datetime.now(UTC)

    def read() -> Mapping[str, Any]:
        if not _is_narrow(wanted):
            return {"found": None, "runs": ()}
        found = _find(action, wanted.where, seen, SHOWN)
        return {"found": found, "runs": queries.read_runs(found.ids)}

    done = DONE.fullmatch(request.query.get("done", ""))
    return await site_page(
        request,
        "run_matching.html",
        read,
        name=name,
        action=action,
        back=f"{RUNS}?{wanted.query}",
        query=wanted.query,
        seen=seen.isoformat(),
        most=MOST_AT_ONCE,
        done=done.groups() if done else None,
        once=new_token(),
        titles=services(request).catalog.titles,
    )


async def change_matching(request: web.Request) -> web.Response:
    """Do it to a thousand of them at most, and go back to the list, or to this page if there are more."""
    require(request, "editor")
    fields = await read_known_fields(request, {ONCE, "action", "query", "seen"})
    name, action = fields.get("action", ""), action_of(fields.get("action", ""))
    require(request, action.role)
    wanted, seen = _wanted(fields.get("query", "")), _moment(fields.get("seen", ""))
    if not _is_narrow(wanted):
        raise RequestError(400, "malformed_form", "the form names no filter, so that it would be for every run")

    def find() -> Sequence[UUID]:
        return _find(action, wanted.where, seen, MOST_AT_ONCE).ids

    done = await send_in_batches(request, fields, find, changing(action, request[ACTOR]))
    said = f"{name}.{done.changed}.{done.busy}"
    if done.changed + done.busy < MOST_AT_ONCE:
        return see_other(f"{RUNS}?{urlencode({**wanted.values, 'done': said})}")
    return see_other(f"{MATCHING}?{urlencode({'action': name, 'query': wanted.query, 'done': said})}")


def changing(action: Action, actor: Actor) -> Any:
    """Return what does an action to a batch of runs."""

    def change(ids: Sequence[UUID]) -> Changed:
        done = action.change(BulkFilter(run_ids=tuple(ids)), actor=actor)
        return Changed(done.changed, len(ids) - done.changed)

    return change


def _find(action: Action, where: RunFilter, seen: datetime, limit: int) -> queries.Matching:
    # What was created after the look was not among those that were counted.
    before = min(where.created_before, seen) if where.created_before else seen
    within = replace(where, created_before=before)
    return queries.find_matching(within, action.statuses, archived=action.archived, limit=limit)


def _wanted(query: str) -> Wanted:
    return read_filters(dict(parse_qsl(query)))


def _is_narrow(wanted: Wanted) -> bool:
    """Return whether there is a filter that leaves runs out."""
    return not wanted.wrong and bool(wanted.values.keys() - {"order", "archived"})


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RequestError(400, "malformed_form", "the form does not say what it has shown") from None
