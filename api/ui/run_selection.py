"""What is done with many runs at once: first a page that says to which it would happen, then the change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.problems import RequestError
from api.services import services
from api.ui.forms import read_known_fields
from api.ui.places import MATCHING, RUNS, local_path, see_other
from api.ui.rendering import site_page
from api.ui.run_actions import action_of
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.ops.bulk import BATCH, BulkFilter
from vm_webapp.runs import queries


async def show_selection(request: web.Request) -> web.Response:
    """Show what would happen to which of the selected runs; nothing changes."""
    require(request, "editor")
    name = request.query.get("action", "")
    action = action_of(name)
    require(request, action.role)
    if request.query.get("all"):
        return see_other(
            f"{MATCHING}?{urlencode({'action': name, 'query': urlsplit(request.query.get('back', '')).query})}"
        )
    ids = _ids(request.query.getall("run", []))
    back = _back(request.query.get("back", ""))

    def read() -> Mapping[str, Any]:
        runs = queries.read_runs(ids)
        changed: tuple[UUID, ...] = ()
        if runs:
            where = BulkFilter(run_ids=tuple(run.id for run in runs))
            changed = action.change(where, actor=request[ACTOR], dry_run=True).run_ids
        return {
            "changing": [run for run in runs if run.id in changed],
            "others": [run for run in runs if run.id not in changed],
            "gone": len(ids) - len(runs),
        }

    return await site_page(
        request,
        "run_selection.html",
        read,
        name=name,
        action=action,
        back=back,
        here=request.rel_url.raw_path_qs,
        once=new_token(),
        titles=services(request).catalog.titles,
    )


async def change_selection(request: web.Request) -> web.Response:
    """Do it, and go back to the list."""
    require(request, "editor")
    fields = await read_known_fields(request, {ONCE, "action", "runs", "back"})
    name = fields.get("action", "")
    action = action_of(name)
    require(request, action.role)
    ids = _ids(fields.get("runs", "").split())
    back, actor = _back(fields.get("back", "")), request[ACTOR]

    def effect() -> str:
        done = action.change(BulkFilter(run_ids=tuple(ids)), actor=actor).changed if ids else 0
        return f"{back}{'&' if '?' in back else '?'}done={name}.{done}.{len(ids) - done}"

    return see_other((await send_once(request, fields, effect)).location)


def _ids(texts: Iterable[str]) -> list[UUID]:
    try:
        found = [UUID(text) for text in dict.fromkeys(texts)]
    except ValueError:
        raise RequestError(400, "malformed_form", "the form names a run in a way that no run is named") from None
    if len(found) > BATCH:
        raise RequestError(400, "malformed_form", f"at most {BATCH} runs at a time")
    return found


def _back(path: str) -> str:
    """Return where the list is that the runs were selected on."""
    return path if path.split("?")[0] == RUNS and local_path(path) == path else RUNS
