"""Events that a reader has seen are gone: after a crash of PostgreSQL, a failover or a restored backup.

A reader's position survives: it gets what there is, rather twice than not at all, and its stream ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from tests.api.client import Api
from tests.api.conftest import Serving
from tests.api.streams import EventSource, Message, open_stream
from tests.chaos.harness import OwnServer, own_postgres
from tests.support.runs import create, read
from tests.support.work import claim_next, finish_next
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle, queries

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def durable() -> Iterator[OwnServer]:
    """A PostgreSQL that writes to the disk what is to survive, and nothing else for ten seconds."""
    with own_postgres(durable=True, wal_writer_delay="10s") as server:
        yield server


@pytest.fixture
def forgetful() -> Iterator[OwnServer]:
    """A PostgreSQL that forgets in a crash what was committed last, like a standby that had not received it."""
    with own_postgres(durable=True, wal_writer_delay="10s", synchronous_commit="off") as server:
        yield server


def keep() -> None:
    """Write to the disk what is committed so far."""
    with transaction():
        execute("SET LOCAL synchronous_commit = on")
        execute("SELECT pg_logical_emit_message(true, 'tests', '')")


def crash(server: OwnServer) -> None:
    server.crash()
    server.start()


def stored(run_id: UUID) -> list[tuple[int | None, str]]:
    return [(event.id, event.type) for event in queries.list_events(run_id, after=0, limit=200)]


def sent(messages: list[Message]) -> list[tuple[int | None, str]]:
    return [(message.id, message.event) for message in messages]


async def test_what_a_reader_has_seen_of_a_claim_survives_a_crash(serving: Serving, durable: OwnServer) -> None:
    run_id = create().run.id
    async with serving() as api, open_stream(api, str(run_id)) as stream:
        claim_next(run_id)
        seen = [await _next(stream) for _ in range(4)]
        await asyncio.to_thread(crash, durable)
        assert stored(run_id) == sent(seen)
        await asyncio.to_thread(lifecycle.cancel_run_if_open, run_id, actor=Actor("ann"))
        assert sent(await stream.rest(seconds=30)) == stored(run_id)[4:]


@asynccontextmanager
async def followed_through_a_crash(api: Api, server: OwnServer) -> AsyncIterator[tuple[UUID, EventSource, int]]:
    """Yield a run whose claim a crash has undone, the stream that has shown it, and the id of its last event."""
    run_id = create().run.id
    keep()
    async with open_stream(api, str(run_id)) as stream:
        claim_next(run_id)
        seen = [await _next(stream) for _ in range(4)]
        await asyncio.to_thread(crash, server)
        assert [type for _, type in stored(run_id)] == ["run.created", "stage.queued"], "the claim is undone"
        assert seen[-1].id is not None
        yield run_id, stream, seen[-1].id


async def test_an_open_stream_begins_again_and_ends(serving: Serving, forgetful: OwnServer) -> None:
    async with serving() as api, followed_through_a_crash(api, forgetful) as (run_id, stream, _):
        await asyncio.to_thread(lifecycle.cancel_run_if_open, run_id, actor=Actor("ann"))
        messages = await stream.rest(seconds=30)
    assert sent(messages)[-3:] == stored(run_id)


async def test_an_open_stream_sees_that_an_id_was_used_again(serving: Serving, forgetful: OwnServer) -> None:
    """Without Redis only the newest event's id and time show that the run has changed."""
    async with serving(redis_url=None) as api, followed_through_a_crash(api, forgetful) as (run_id, stream, last):
        with transaction():
            execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")  # no poll sees what is between
            execute("ALTER TABLE events ALTER COLUMN id RESTART WITH %(id)s", id=last)
            lifecycle.cancel_run_if_open(run_id, actor=Actor("ann"))
        messages = await stream.rest(seconds=30)
    assert stored(run_id)[-1] == (last, "run.canceled")
    assert sent(messages)[-3:] == stored(run_id)


async def test_a_position_that_was_undone_is_answered_with_everything(serving: Serving, forgetful: OwnServer) -> None:
    async with serving() as api, followed_through_a_crash(api, forgetful) as (run_id, _, last):
        path = f"/runs/{run_id}/events"
        page = (await api.get(f"{path}?after={last}")).json()
        assert [(event["id"], event["type"]) for event in page["items"]] == stored(run_id)
        await asyncio.to_thread(_finish, run_id)
        async with open_stream(api, str(run_id), last_id=str(last + 1000)) as stream:
            assert sent(await stream.rest(seconds=30)) == stored(run_id)


async def test_the_stream_of_a_run_that_is_gone_ends(serving: Serving, database: str) -> None:
    async with serving() as api:
        run_id = UUID((await api.create_run())["id"])
        async with open_stream(api, str(run_id)) as stream:
            assert [await stream.next(), await stream.next()]
            with transaction():
                for table in ("events", "stages", "runs"):
                    column = "id" if table == "runs" else "run_id"
                    execute(f"DELETE FROM {table} WHERE {column} = %(id)s", id=run_id)
            assert await stream.rest(seconds=10) == []
        (await api.get(f"/runs/{run_id}/events")).problem(404, "not_found")
    assert read("SELECT count(*)::int AS n FROM runs") == [{"n": 0}]


def _finish(run_id: UUID) -> None:
    while queries.get_run(run_id).status in ("queued", "running"):
        finish_next(run_id)


async def _next(stream: EventSource) -> Message:
    message = await stream.next()
    assert message is not None
    return message
