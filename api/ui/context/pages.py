"""The pages of brands and projects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.cursors import Cursor
from api.http.problems import Handler, RequestError
from api.services import services
from api.ui.bars import bars_of
from api.ui.budget_fields import has_prices
from api.ui.context.choices import choices_of
from api.ui.context.fields import InvalidForm, changed_only, read_values, texts_of, wrong_in
from api.ui.context.kinds import BRAND, KINDS, PROJECT, Kind
from api.ui.forms import read_known_fields
from api.ui.home import usage_of_month
from api.ui.places import see_other
from api.ui.rendering import site_page
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.context import ResourceChanged, brands
from vm_webapp.context.time_zones import known_time_zones
from vm_webapp.errors import Conflict, InvalidInput
from vm_webapp.runs import queries
from vm_webapp.runs.day_budgets import read_day_budget
from vm_webapp.runs.queries import RunFilter
from vm_webapp.text import storable
from vm_webapp.usage.reports import Part, read_usage

LISTED, RUNS_SHOWN = 50, 10
CHART_DAYS = 30
VERSION = "version"
SENT_BEFORE = "This form has been saved already, and what is in it now has not. Send it to create another."
WRONG_FORM = "Nothing has been saved yet. What you typed is still here."


def pages_of(kind: Kind) -> tuple[tuple[str, str, Handler], ...]:
    """Return the pages of brands, or of projects: method, path and handler of each."""
    one = f"{kind.path}/{{id}}"

    async def show_list(request: web.Request) -> web.Response:
        return await _list(request, kind)

    async def show_new(request: web.Request) -> web.Response:
        require(request, "editor")
        return await _form(request, kind, dict(request.query))

    async def create(request: web.Request) -> web.Response:
        return await _create(request, kind)

    async def show(request: web.Request) -> web.Response:
        return await _show(request, kind, _id_of(request, kind))

    async def show_edit(request: web.Request) -> web.Response:
        require(request, "editor")
        return await _form(request, kind, None, id=_id_of(request, kind))

    async def change(request: web.Request) -> web.Response:
        return await _change(request, kind, _id_of(request, kind))

    async def archive(request: web.Request) -> web.Response:
        require(request, "editor")
        await read_known_fields(request, {ONCE})
        id, actor = _id_of(request, kind), request[ACTOR]
        await services(request).threads.run(lambda: kind.repository.archive(id, actor=actor))
        return see_other(f"{kind.path}/{id}")

    return (
        ("GET", kind.path, show_list),
        ("POST", kind.path, create),
        ("GET", f"{kind.path}/new", show_new),
        ("GET", one, show),
        ("GET", f"{one}/edit", show_edit),
        ("POST", f"{one}/edit", change),
        ("POST", f"{one}/archive", archive),
    )


async def _list(request: web.Request, kind: Kind) -> web.Response:
    archived, after = "archived" in request.query, Cursor.position(request.query.get("cursor"))

    def read() -> Mapping[str, Any]:
        found = kind.repository.list(limit=LISTED, after=after, archived=archived)
        return {
            "records": found.items,
            "next": Cursor.of(found.next_position),  # type: ignore[arg-type]  # lists of records have a time and an id
            "brands": brands.names(each.brand_id for each in found.items) if kind is PROJECT else {},
        }

    return await site_page(request, "resources.html", read, kind=kind, archived=archived, later=after is not None)


async def _show(request: web.Request, kind: Kind, id: UUID, *, status: int = 200, trouble: str = "") -> web.Response:
    titles = services(request).catalog.titles
    today = datetime.now(UTC).date()

    def read() -> Mapping[str, Any]:
        record = kind.repository.read(id)
        where = RunFilter(brand_id=id) if kind is BRAND else RunFilter(project_id=id)
        found = queries.list_runs(where, limit=RUNS_SHOWN, after=None)
        spent = _use_of_brand(id, today) if kind is BRAND else _use_of_project(record, today)
        return {"record": record, "runs": found.items, "more_runs": found.next_position is not None, **spent}

    return await site_page(request, f"{kind.noun}.html", read, status=status, kind=kind, titles=titles, trouble=trouble)


def _use_of_brand(id: UUID, today: date) -> Mapping[str, Any]:
    # A day more than today: in the brand's time zone it may have begun.
    first, last = today - timedelta(days=CHART_DAYS - 2), today + timedelta(days=1)
    by_day: tuple[Part, ...] = ("day",)
    days = {each.day: each for each in read_usage(first, last, by_day, brand_id=id) if each.day}
    return {
        "used": usage_of_month(today, brand_id=id),
        "days": days,
        "bars": bars_of({day: each.prompt_tokens + each.completion_tokens for day, each in days.items()}, first, last),
        "day_budget": read_day_budget(id),
    }


def _use_of_project(record: Any, today: date) -> Mapping[str, Any]:
    month = datetime(today.year, today.month, 1, tzinfo=UTC)
    return {
        "used": queries.read_spending_of_project(record.id, created_after=month),
        "brand": brands.read(record.brand_id) if record.brand_id else None,
        "day_budget": read_day_budget(record.brand_id) if record.brand_id else None,
    }


async def _create(request: web.Request, kind: Kind) -> web.Response:
    require(request, "editor")
    form = await read_known_fields(request, _names(kind))
    actor = request[ACTOR]
    try:
        values = read_values(form, kind.all_fields, kind.resource, services(request).settings)

        def effect() -> str:
            return f"{kind.path}/{kind.repository.create(values, actor=actor).id}"

        sent = await send_once(request, form, effect)
    except (InvalidForm, InvalidInput) as error:
        return await _form(request, kind, form, wrong=wrong_in(error), status=422)
    if sent.is_other:
        return await _form(
            request, kind, form | {ONCE: new_token()}, trouble=SENT_BEFORE, earlier=sent.location, status=409
        )
    return see_other(sent.location)


async def _change(request: web.Request, kind: Kind, id: UUID) -> web.Response:
    require(request, "editor")
    form = await read_known_fields(request, _names(kind))
    actor = request[ACTOR]
    if not form.get(VERSION, "").isdecimal() or len(form[VERSION]) > 9:
        raise RequestError(400, "malformed_form", "the form does not say which version it changes")
    try:
        values = read_values(form, kind.all_fields, kind.resource, services(request).settings)

        def effect() -> str:
            changed = changed_only(values, form, kind.repository.read(id), kind.all_fields)
            kind.repository.change(id, changed, version=int(form[VERSION]), actor=actor)
            return f"{kind.path}/{id}"

        sent = await send_once(request, form, effect)
    except (InvalidForm, InvalidInput) as error:
        return await _form(request, kind, form, id=id, wrong=wrong_in(error), status=422)
    except ResourceChanged:
        return await _form(request, kind, form, id=id, stale=True, status=412)
    except Conflict as error:
        return await _show(request, kind, id, status=error.http_status, trouble=f"Nothing has changed: {error}.")
    if sent.is_other:  # the same page was sent before, with other text
        return await _form(request, kind, form | {ONCE: new_token()}, id=id, stale=True, status=412)
    return see_other(sent.location)


async def _form(
    request: web.Request,
    kind: Kind,
    typed: Mapping[str, str] | None,
    *,
    id: UUID | None = None,
    wrong: Mapping[str, str] | None = None,
    stale: bool = False,
    trouble: str = "",
    earlier: str = "",
    status: int = 200,
) -> web.Response:
    """Return the page with the form.

    Args:
        request: the request.
        kind: brands or projects.
        typed: the fields as they were filled in; None for those of the record.
        id: the record that is changed; None for a new one.
        wrong: what is wrong, by the field.
        stale: whether somebody has changed the record since the form was opened. The form then shows what others have
            written, and the next time that it is sent it replaces that.
        trouble: why it was not stored, where no field is wrong.
        earlier: the page of what this form has made before.
        status: the status of the response.
    """
    own = services(request)

    def read() -> Mapping[str, Any]:
        record = kind.repository.read(id) if id else None
        stored = texts_of(record, kind.all_fields) if record else {}
        blank = {name: "" for field in kind.all_fields for name in field.names} | {"time_zone": "UTC"}
        kept = {name: storable(text) for name, text in (typed or {}).items()}
        values = blank | (stored if typed is None else kept)
        newer = {name: text for name, text in stored.items() if text != values[name].strip()} if stale else {}
        version = kept.get(VERSION, "") if typed is not None and not stale else ""
        return {
            "record": record,
            "values": values,
            "newer": newer,
            "version": version or (record.version if record else ""),
            # One that was archived since stays the project's own.
            "choices": choices_of(brands, record.brand_id if record else None) if kind is PROJECT else (),
        }

    return await site_page(
        request,
        "resource_form.html",
        read,
        status=status,
        kind=kind,
        wrong=wrong or {},
        stale=stale,
        trouble=trouble or (WRONG_FORM if wrong else ""),
        earlier=earlier,
        once=(typed or {}).get(ONCE) or new_token(),
        zones=known_time_zones() if kind is BRAND else (),
        has_prices=has_prices(own.settings),
    )


def _names(kind: Kind) -> set[str]:
    return {ONCE, VERSION, *(name for field in kind.all_fields for name in field.names)}


def _id_of(request: web.Request, kind: Kind) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise RequestError(404, "not_found", f"there is no such {kind.noun}") from None


CONTEXT_PAGES = tuple(page for kind in KINDS.values() for page in pages_of(kind))
