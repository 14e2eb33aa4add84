"""A run's timeline, live: past events first, then new ones; in order, none twice, none missing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from uuid import UUID, uuid4

import pytest

from actors import broker
from api.streams import event_stream
from tests.api.client import Api, Response, until
from tests.api.conftest import Serving
from tests.api.streams import Message, open_stream
from tests.support.work import claim_next, finish_next
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import transaction
from vm_webapp.execution.progress import StageProgress
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.steps import lock_run
from vm_webapp.runs.records import RunHead
from vm_webapp.runs.states import Failure

STREAM = {"Accept": "text/event-stream"}


def stored(run_id: str) -> list[tuple[int | None, str]]:
    """Return ids and types of the run's events, as they are stored."""
    return [(event.id, event.type) for event in queries.list_events(UUID(run_id), after=0, limit=200)]


def sent(messages: list[Message]) -> list[tuple[int | None, str]]:
    """Return ids and types of the messages."""
    return [(message.id, message.event) for message in messages]


async def in_thread(work: Callable[[], object]) -> None:
    """Run work without blocking the server's event loop."""
    await asyncio.to_thread(work)


async def test_history_comes_first_then_live_events_until_the_final_one(api: Api) -> None:
    run_id = (await api.create_run())["id"]
    await in_thread(lambda: finish_next(run_id))
    async with open_stream(api, run_id) as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.response.headers["X-Request-ID"]
        history = [await stream.next() for _ in stored(run_id)]
        await in_thread(lambda: finish_next(run_id))
        live = await stream.rest()
    assert sent([*(message for message in history if message), *live]) == stored(run_id)
    assert live[-1].event == "run.completed"
    assert live[-1].data["run_id"] == run_id


async def test_redis_wakes_a_stream_before_the_poll_does(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.streams.followers.POLL_SECONDS", 60)
    run_id = (await api.create_run())["id"]
    async with open_stream(api, run_id) as stream:
        assert await stream.next()
        assert await stream.next()
        await until(lambda: api.services.followers.listening)
        await in_thread(lambda: lifecycle.cancel_run_if_open(UUID(run_id), actor=Actor("ann")))
        assert sent(await stream.rest(seconds=3)) == stored(run_id)[2:]


async def test_without_redis_the_poll_finds_every_event(serving: Serving, database: str) -> None:
    async with serving(redis_url=None) as api:
        run_id = (await api.create_run())["id"]
        async with open_stream(api, run_id) as stream:
            await stream.next()
            await in_thread(lambda: finish_next(run_id))
            await in_thread(lambda: finish_next(run_id))
            assert sent(await stream.rest()) == stored(run_id)[1:]


async def test_many_followed_runs_cost_one_query_per_poll(
    serving: Serving, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    heads = queries.run_heads

    def counted(ids: Collection[UUID]) -> dict[UUID, RunHead]:
        asked.append(len(ids))
        return heads(ids)

    monkeypatch.setattr(queries, "run_heads", counted)
    monkeypatch.setattr("api.streams.followers.POLL_SECONDS", 0.1)
    async with serving() as api:
        runs = [(await api.create_run())["id"] for _ in range(10)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_read_two(api, run_id)) for run_id in runs for _ in range(3)]
            await until(lambda: len(api.services.followers) == 30 and len(asked) >= 3)
            for task in tasks:
                task.cancel()
        assert max(asked) == 10
        await until(lambda: len(api.services.followers) == 0)


async def _read_two(api: Api, run_id: str) -> None:
    async with open_stream(api, run_id) as stream:
        while await stream.next(seconds=30):
            pass


async def test_a_stream_is_resumed_where_it_broke_off(serving: Serving, database: str) -> None:
    async with serving() as api:
        run_id = (await api.create_run())["id"]
        async with open_stream(api, run_id) as stream:
            first = await stream.next()
            assert first is not None
    await in_thread(lambda: finish_next(run_id))
    # Another process of the API.
    async with serving() as api, open_stream(api, run_id, last_id=str(first.id)) as stream:
        await in_thread(lambda: finish_next(run_id))
        messages = await stream.rest()
    assert sent([first, *messages]) == stored(run_id)


async def test_after_the_end_a_reconnect_gets_204(api: Api) -> None:
    run_id = (await api.create_run(workflow="smoke"))["id"]
    await in_thread(lambda: finish_next(run_id))
    async with open_stream(api, run_id) as stream:
        last = (await stream.rest())[-1]
    response = await api.get(f"/runs/{run_id}/events", headers=STREAM | {"Last-Event-ID": str(last.id)})
    assert (response.status, response.body) == (204, b"")


async def test_the_failure_of_a_run_that_was_retried_is_not_its_end(api: Api) -> None:
    run_id = (await api.create_run())["id"]
    failure = Failure("llm_bad_request", "HTTP 400", permanent=True)
    await in_thread(lambda: lifecycle.fail_attempt_if_held(claim_next(run_id), failure, jitter=0))
    async with open_stream(api, run_id) as stream:
        assert (await stream.rest())[-1].event == "run.failed"
    await api.post(f"/runs/{run_id}/retry", {})
    async with open_stream(api, run_id) as stream:
        await in_thread(lambda: finish_next(run_id))
        await in_thread(lambda: finish_next(run_id))
        messages = await stream.rest()
    assert sent(messages) == stored(run_id)
    assert messages[-1].event == "run.completed"


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 30])
async def test_a_wrong_position_is_refused(api: Api, given: str) -> None:
    run_id = (await api.create_run())["id"]
    response: Response = await api.get(f"/runs/{run_id}/events", headers=STREAM | {"Last-Event-ID": given})
    problem = response.problem(422, "invalid_header")
    assert [each["header"] for each in problem["errors"]] == ["Last-Event-ID"]
    assert len(api.services.followers) == 0


async def test_the_stream_of_an_unknown_run_is_not_found(refusing: Api) -> None:
    (await refusing.get(f"/runs/{uuid4()}/events", headers=STREAM)).problem(404, "not_found")


async def test_an_open_transaction_delays_later_events_of_the_same_run(api: Api) -> None:
    """The second transition waits for the first one's lock, so ids and commits have one order."""
    run_id = (await api.create_run())["id"]
    other = (await api.create_run())["id"]
    opened, go_on = threading.Event(), threading.Event()

    def hold_open() -> None:
        with transaction():
            lock_run(UUID(run_id))
            append_events(UUID(run_id), "ann", NewEvent("stage.queued", "topic_map", {"held": True}))
            opened.set()
            assert go_on.wait(10)

    async with open_stream(api, run_id) as stream, asyncio.TaskGroup() as group:
        assert [await stream.next(), await stream.next()]
        group.create_task(in_thread(hold_open))
        await asyncio.to_thread(opened.wait, 10)
        canceling = group.create_task(in_thread(lambda: lifecycle.cancel_run_if_open(UUID(run_id), actor=Actor("ann"))))
        await in_thread(lambda: lifecycle.cancel_run_if_open(UUID(other), actor=Actor("ann")))  # commits meanwhile
        with pytest.raises(TimeoutError):
            await stream.next(seconds=1.5)
        assert not canceling.done()
        go_on.set()
        messages = await stream.rest()
    assert sent(messages) == stored(run_id)[2:]
    assert [message.event for message in messages] == ["stage.queued", "run.canceled"]


async def test_text_that_the_model_writes_is_streamed_without_an_id_and_not_stored(api: Api) -> None:
    run_id = (await api.create_run())["id"]
    text = "# Topics\nwith “quotes”\u2028"
    async with open_stream(api, run_id) as stream:
        assert [await stream.next(), await stream.next()]
        await until(lambda: api.services.followers.listening)
        broker.report(UUID(run_id), StageProgress("topic_map", 1, 0, text))
        progress = await stream.next(seconds=3)
        assert progress is not None
        assert (progress.id, progress.event) == (None, "stage.progress")
        assert progress.data == {
            "stage": "topic_map",
            "attempt": 1,
            "offset": 0,
            "text": "# Topics\nwith “quotes”\u2028",
        }
    assert len(stored(run_id)) == 2


async def test_an_idle_stream_sends_heartbeats(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.1)
    run_id = (await api.create_run())["id"]
    async with open_stream(api, run_id) as stream:
        assert [await stream.next(), await stream.next()]
        async with asyncio.timeout(5):
            assert await stream.response.content.readline() == b": still here\n"


async def test_a_client_that_disconnects_is_no_longer_followed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.1)
    run_id = (await api.create_run())["id"]
    async with open_stream(api, run_id) as stream:
        await stream.next()
        assert len(api.services.followers) == 1
        stream.response.close()
        await until(lambda: len(api.services.followers) == 0)


async def test_a_client_that_never_reads_is_disconnected(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "WRITE_SECONDS", 0.2)
    run_id = (await api.create_run())["id"]
    large = {"filler": "x" * 60_000}

    def write_much() -> None:
        for _ in range(150):
            with transaction():
                lock_run(UUID(run_id))
                append_events(UUID(run_id), "ann", NewEvent("stage.queued", "topic_map", large))

    await in_thread(write_much)
    async with open_stream(api, run_id):
        await until(lambda: len(api.services.followers) == 1)
        await until(lambda: len(api.services.followers) == 0, seconds=10)


async def test_at_shutdown_streams_end_at_once(serving: Serving, database: str) -> None:
    async with serving() as api:
        run_id = (await api.create_run())["id"]
        async with open_stream(api, run_id) as stream:
            assert [await stream.next(), await stream.next()]
            await api.services.followers.close()
            assert await stream.rest(seconds=3) == []
