"""``@query``: a synchronous function on a database thread, whose records the declared model turns into a response."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
from aiohttp import web

from api.auth.actors import ACTOR
from api.http.cursors import Cursor
from api.http.problems import Handler, problem_middleware
from api.operations.call import Call
from api.operations.models import Output
from api.operations.operation import Operation
from api.operations.pages import PageOut, PageQuery
from api.operations.query import Found, query
from tests.api.client import Response
from tests.api.conftest import Serving
from vm_webapp.access.actor import Actor
from vm_webapp.db.paging import Page

POSITION = (datetime(2026, 11, 25, tzinfo=UTC), UUID(int=7))


@dataclass(frozen=True)
class Thing:
    """A record of the core."""

    name: str
    secret: str = "not shown"


class ThingOut(Output):
    """A thing."""

    name: str


class OtherOut(Output):
    """A model that no thing fits."""

    size: int


async def twice_or_not_at_all(
    request: web.Request, read: Callable[[], Awaitable[Found]], *, query: PageQuery
) -> Found | web.StreamResponse:
    """Read twice, or return its own response."""
    if query.limit == 1:
        return web.Response(text="by itself")
    await read()
    return await read()


@query("/thread", ThingOut, role="viewer", summary="x", headers=lambda thing: {"X-Length": str(len(thing.name))})
def name_thread(call: Call) -> Thing:
    """Return the name of this thread."""
    return Thing(threading.current_thread().name)


@query("/page", PageOut[ThingOut], role="viewer", summary="x")
def list_page(call: Call, query: PageQuery) -> Page[Thing]:
    """List a page that has a next one."""
    return Page((Thing("a"), Thing("b")), POSITION)


@query("/numbered", PageOut[ThingOut], role="viewer", summary="x")
def list_numbered(call: Call) -> Page[Thing]:
    """List a page whose position is a number."""
    return Page((Thing("a"),), 12)


@query("/all", PageOut[ThingOut], role="viewer", summary="x")
def list_all(call: Call) -> list[Thing]:
    """List everything."""
    return [Thing("a")]


@query("/other", OtherOut, role="viewer", summary="x")
def read_other(call: Call) -> Thing:
    """Return a record that the model refuses."""
    return Thing("a")


read: list[str] = []


@query("/around", PageOut[ThingOut], role="viewer", summary="x", around=twice_or_not_at_all)
def list_around(call: Call, query: PageQuery) -> list[Thing]:
    """List everything, and note it."""
    read.append(call.actor.name)
    return []


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Admit every request."""
    request[ACTOR] = Actor("ann")
    return await handler(request)


@pytest.fixture
async def ask(serving: Serving, untouched: None) -> AsyncIterator[Callable[[str], Awaitable[Response]]]:
    """Send requests to a sub-application of these queries."""
    sub_app = web.Application(middlewares=[problem_middleware, admit])
    routes: list[Operation] = [name_thread, list_page, list_numbered, list_all, read_other, list_around]
    for route in routes:
        sub_app.router.add_get(route.path, route.__call__)

    async with serving(sub_apps={"/sub_app": sub_app}) as api:

        async def get(path: str) -> Response:
            async with api.session.get(f"{api.base_url}/sub_app{path}") as response:
                return Response(response.status, response.headers, await response.read())

        yield get


Ask = Callable[[str], Awaitable[Response]]


async def test_it_runs_on_a_database_thread_and_returns_the_models_fields(ask: Ask) -> None:
    response = await ask("/thread")
    thread = response.json()
    assert thread["name"].startswith("api_")
    assert thread.keys() == {"name"}
    assert response.headers["X-Length"] == str(len(thread["name"]))


@pytest.mark.parametrize(
    ("path", "names", "cursor"),
    [("/page", ["a", "b"], Cursor.of(POSITION)), ("/numbered", ["a"], "12"), ("/all", ["a"], None)],
)
async def test_a_page_is_built_from_the_cores_page(ask: Ask, path: str, names: list[str], cursor: str | None) -> None:
    assert (await ask(path)).json() == {"items": [{"name": name} for name in names], "next_cursor": cursor}


async def test_records_that_the_model_refuses_are_an_internal_error(ask: Ask) -> None:
    (await ask("/other")).problem(500, "internal_error")


async def test_around_reads_as_often_as_it_likes(ask: Ask) -> None:
    read.clear()
    assert (await ask("/around?limit=1")).body == b"by itself"
    assert read == []
    assert (await ask("/around")).json() == {"items": [], "next_cursor": None}
    assert read == ["ann", "ann"]
