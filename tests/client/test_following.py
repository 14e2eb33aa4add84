"""Following a run on a real API: no event twice, none missing, over several connections."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from actors import broker
from tests.api.client import Api, until
from tests.client.work import write_next
from tests.fakes.stranger import responding
from vm_webapp.client import ApiClient, connection, open_api, runs
from vm_webapp.client.errors import ConnectionBroken, MalformedStream, NotThisApi, Refused, TimedOut, Unreachable
from vm_webapp.client.event_stream import EventStream
from vm_webapp.execution.progress import StageProgress

PATIENCE_SECONDS = 10


@pytest.fixture
async def run_id(client: ApiClient) -> str:
    """A run that no worker has started."""
    return (await client.runs.create(workflow="content_calendar", request="a calendar"))["id"]


async def received(stream: EventStream, most: int) -> list[str]:
    """Read this many events from one connection; return their types."""
    types: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(stream.read()) as notices:
        async for notice in notices:
            if "type" in notice:
                types.append(notice["type"])
            if len(types) == most:
                break
    return types


async def stored(client: ApiClient, run_id: str) -> list[str]:
    """Return the types of the run's events, as they are stored."""
    return [event["type"] async for event in client.runs.timeline(run_id)]


async def test_each_connection_resumes_after_the_previous_one(client: ApiClient, run_id: str) -> None:
    stream = client.runs.stream(run_id)
    first = await received(stream, 1)
    assert stream.last_id
    second = await received(stream, 1)
    await write_next(run_id)
    await write_next(run_id)
    rest = await received(stream, 100)
    assert [*first, *second, *rest] == await stored(client, run_id)
    assert rest[-1] == "run.completed"
    assert await received(stream, 100) == []


async def test_pieces_of_text_have_no_type_and_do_not_move_the_position(
    client: ApiClient, api: Api, run_id: str
) -> None:
    stream = client.runs.stream(run_id)
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(stream.read()) as notices:
        events = [await anext(notices), await anext(notices)]
        place = stream.last_id
        await until(lambda: api.services.followers.listening)
        broker.report(UUID(run_id), StageProgress("topic_map", 1, 7, "# Topics\u2028“é”"))
        assert await anext(notices) == {"stage": "topic_map", "attempt": 1, "offset": 7, "text": "# Topics\u2028“é”"}
    assert all("type" in event for event in events)
    assert stream.last_id == place


async def test_a_run_is_followed_over_connections_that_break(
    client: ApiClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.3)  # the API breaks its silence every 15 s
    monkeypatch.setattr(runs, "RECONNECT_SECONDS", 0.01)
    seen: list[str] = []
    began, quiet_seconds = time.monotonic(), 0.0
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(client.runs.follow(run_id)) as following:
        async for run in following:
            assert "status" in run
            seen.append(run["status"])
            if run["status"] == "completed":
                break
            if len(seen) == 6:  # the first read, two events, and the first reads of three further connections
                quiet_seconds = time.monotonic() - began
            if len(seen) in (6, 8):
                await write_next(run_id)
    assert seen[:6] == ["queued"] * 6
    # A connection that repeated the events of the previous one would have sent them without a pause.
    assert quiet_seconds >= 3 * 0.3


async def test_a_stream_that_is_refused_leaves_the_run_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "RECONNECT_SECONDS", 0.01)
    asked: list[str] = []

    def respond(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path.endswith("/events"):
            return web.json_response({"type": "/problems/overloaded", "detail": "later"}, status=503)
        return web.json_response({"id": "r1", "status": "running"})

    async with (
        responding(respond) as address,
        open_api(address, trust_env=False) as client,
        aclosing(client.runs.follow("r1")) as following,
    ):
        seen = [await anext(following) for _ in range(3)]
    assert all("status" in each and each["status"] == "running" for each in seen)
    assert asked == ["/api/v2/runs/r1", "/api/v2/runs/r1/events"] * 2 + ["/api/v2/runs/r1"]


async def test_the_server_decides_when_to_reconnect_and_the_last_id_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "RECONNECT_SECONDS", 3600.0)
    places: list[str | None] = []

    def respond(request: web.Request) -> web.Response:
        if not request.path.endswith("/events"):
            return web.json_response({"id": "r1", "status": "running"})
        places.append(request.headers.get("Last-Event-ID"))
        text = 'retry: 20\nid: 7é\ndata: {"id": 7, "type": "stage.started"}\n\n'
        return web.Response(text=text, content_type="text/event-stream")

    async with (
        responding(respond) as address,
        open_api(address, trust_env=False) as client,
        aclosing(client.runs.follow("r1")) as following,
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(4):
                await anext(following)
    assert places[0] is None
    assert [place.encode("utf-8", "surrogateescape") for place in places[1:] if place] == ["7é".encode()]


async def test_following_ends_when_the_run_cannot_be_read(client: ApiClient) -> None:
    async with aclosing(client.runs.follow(str(uuid4()))) as following:
        with pytest.raises(Refused):
            await anext(following)


async def test_the_stream_of_an_unknown_run_is_refused(client: ApiClient) -> None:
    with pytest.raises(Refused) as refused:
        await received(client.runs.stream(str(uuid4())), 1)
    assert refused.value.code == "not_found"


async def test_a_silent_stream_is_a_time_out(client: ApiClient, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.2)
    with pytest.raises(TimedOut):
        await received(client.runs.stream(run_id), 100)


async def test_an_unreachable_address_and_a_broken_connection_are_different_errors() -> None:
    async with open_api("http://127.0.0.1:1", trust_env=False) as client:
        with pytest.raises(Unreachable):
            await received(client.runs.stream("r1"), 1)

    def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with responding(hang_up) as address, open_api(address, trust_env=False) as client:
        with pytest.raises(ConnectionBroken):
            await received(client.runs.stream("r1"), 1)


@pytest.mark.parametrize("data", ["{", "7", "[]", "[" * 100_000])
async def test_a_stream_of_another_server_is_malformed(data: str) -> None:
    text = f"data: {data}\n\n"
    async with (
        responding(lambda request: web.Response(text=text)) as address,
        open_api(address, trust_env=False) as client,
    ):
        with pytest.raises(MalformedStream):
            await received(client.runs.stream("r1"), 1)


@pytest.mark.parametrize("status", [204, 206, 302, 404])
async def test_a_stream_that_another_server_refuses_is_not_this_api(status: int) -> None:
    async with (
        responding(lambda request: web.Response(status=status)) as address,
        open_api(address, trust_env=False) as client,
    ):
        with pytest.raises(NotThisApi):
            await received(client.runs.stream("r1"), 1)
