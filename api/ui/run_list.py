"""All runs: filtered, in order, a page at a time, with the views that a person has saved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR
from api.http.cursors import Cursor
from api.http.problems import RequestError
from api.services import services
from api.ui.context.choices import choices_of
from api.ui.forms import read_known_fields
from api.ui.places import RUNS, see_other
from api.ui.rendering import site_page
from api.ui.run_filters import FIELDS, STATUSES, Wanted, read_filters
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.access.actor import Actor
from vm_webapp.context import brands, projects
from vm_webapp.errors import InvalidInput
from vm_webapp.runs import queries, saved_views
from vm_webapp.text import UNSTORABLE, is_storable

LISTED = 50
THOROUGH = {"look": "all"}
DONE = re.compile(r"(cancel|retry|archive|unarchive)\.(\d{1,4})\.(\d{1,4})")


async def list_runs(request: web.Request) -> web.Response:
    """Show a page of the runs that the address asks for."""
    return await _page(request, read_filters(request.query))


async def save_view(request: web.Request) -> web.Response:
    """Save the filters and the order under a name."""
    fields = await read_known_fields(request, {ONCE, "name", "query"})
    wanted = read_filters(dict(parse_qsl(fields.get("query", ""))))
    name, owner = fields.get("name", "").strip(), owner_of(request[ACTOR])

    def effect() -> str:
        saved_views.save_view(owner, name, wanted.query)
        return f"{RUNS}?{wanted.query}"

    try:
        if not is_storable(name):
            raise InvalidInput(f"The name {UNSTORABLE}.", pointer="/name")
        if not wanted.values or wanted.wrong:
            raise InvalidInput("Choose filters or an order first.", pointer="/name")
        sent = await send_once(request, fields, effect)
    except InvalidInput as error:
        return await _page(request, wanted, name=fields.get("name", ""), wrong_name=str(error), status=422)
    return see_other(sent.location)


async def delete_view(request: web.Request) -> web.Response:
    """Remove a saved view."""
    await read_known_fields(request, {ONCE})
    owner = owner_of(request[ACTOR])
    try:
        id = UUID(request.match_info["id"])
    except ValueError:
        raise RequestError(404, "not_found", "there is no such view") from None
    await services(request).threads.run(lambda: saved_views.delete_view(owner, id))
    return see_other(RUNS)


def owner_of(actor: Actor) -> str:
    """Return whose views a person's are."""
    return actor.id or actor.name


async def _page(
    request: web.Request, wanted: Wanted, *, name: str = "", wrong_name: str = "", status: int = 200
) -> web.Response:
    catalog = services(request).catalog
    cursor = request.query.get("cursor") if request.method == "GET" else None
    after = Cursor.position(cursor or None)
    # Both stand in no saved view: where the page begins, and whether it may take as long as it needs.
    place = {"cursor": cursor} if cursor else {}
    thorough = THOROUGH if request.query.get("look") == "all" else {}

    def address(**more: str) -> str:
        return f"{RUNS}?{urlencode({**wanted.values, **more})}"

    def read() -> Mapping[str, Any]:
        look = None
        if not wanted.wrong:
            look = queries.look_for_runs(
                wanted.where, limit=LISTED, after=after, order=wanted.order, bounded=not thorough
            )
        next_cursor = Cursor.of(look.page.next_position) if look else None  # type: ignore[arg-type]
        return {
            "runs": look.page.items if look else (),
            "next": address(cursor=next_cursor, **thorough) if next_cursor else None,
            "until": look.until if look else None,
            "counts": queries.count_by_status(),
            "brands": choices_of(brands, wanted.where.brand_id, archived=True),
            "projects": choices_of(projects, wanted.where.project_id, archived=True),
            "views": saved_views.list_views(owner_of(request[ACTOR])),
        }

    done = DONE.fullmatch(request.query.get("done", ""))
    return await site_page(
        request,
        "run_list.html",
        read,
        status=422 if wanted.wrong else status,
        values=dict.fromkeys(FIELDS, "") | dict(wanted.values),
        query=wanted.query,
        wrong=wanted.wrong,
        order=wanted.order,
        later=after is not None,
        here=address(**place, **thorough),
        further=address(**place, **THOROUGH),
        thorough=bool(thorough),
        filtered=bool(wanted.values.keys() - {"order", "archived"}),
        statuses=STATUSES,
        titles=catalog.titles,
        done=done.groups() if done else None,
        name=name,
        wrong_name=wrong_name,
        once=new_token(),
    )
