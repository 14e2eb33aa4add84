"""GET /runs/{id}?wait=: the response comes with the change, and waiting costs next to nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
import structlog

from actors import broker
from api.http.threads import Threads
from api.streams import followers
from api.streams.followers import POLL_WITHOUT_REDIS_SECONDS as POLL_SECONDS
from api.streams.followers import Followers
from tests.api.client import Api, until
from tests.api.conftest import Serving
from tests.api.streams import open_stream
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import transaction
from vm_webapp.fleet.installation import find_fingerprint
from vm_webapp.logs import logged_with
from vm_webapp.redis_keys import channel_of
from vm_webapp.runs import lifecycle
from vm_webapp.runs.events import NewEvent, append_events
from vm_webapp.runs.lifecycle.steps import lock_run
from vm_webapp.runs.records import RunHead

LONG = 30
SOON = 5.0  # far below LONG, far above what a response takes


def cancel(run_id: str) -> None:
    assert lifecycle.cancel_run_if_open(UUID(run_id), actor=Actor("tests"))


def polls(caplog: pytest.LogCaptureFixture) -> int:
    return sum('AS "event_id"' in record.getMessage() for record in caplog.records)


async def test_the_response_comes_as_soon_as_the_status_changes(api: Api) -> None:
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.followers.waiting == 1)
    cancel(run["id"])
    response = await asyncio.wait_for(waiting, SOON)
    assert (response.status, response.json()["status"]) == (200, "canceled")


@pytest.mark.parametrize("wait", ["0.3", "1"])
async def test_without_a_change_the_response_comes_when_the_time_is_over(api: Api, wait: str) -> None:
    run = await api.create_run()
    began = time.monotonic()
    response = await api.get(f"/runs/{run['id']}?wait={wait}")
    assert float(wait) <= time.monotonic() - began < float(wait) + SOON
    assert response.json() == run


async def test_a_final_run_is_returned_at_once(api: Api) -> None:
    run = await api.create_run()
    cancel(run["id"])
    response = await asyncio.wait_for(api.get(f"/runs/{run['id']}?wait={LONG}"), SOON)
    assert response.json()["status"] == "canceled"


async def test_a_run_that_does_not_exist_is_a_404_at_once(refusing: Api) -> None:
    (await asyncio.wait_for(refusing.get(f"/runs/{uuid4()}?wait={LONG}"), SOON)).problem(404, "not_found")


@pytest.mark.parametrize("with_redis", [True, False])
async def test_fifty_waiting_requests_cost_one_query_per_poll(
    serving: Serving, database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, with_redis: bool
) -> None:
    monkeypatch.setattr(followers, "POLL_SECONDS", POLL_SECONDS)
    async with serving(**({} if with_redis else {"redis_url": None})) as api:
        await _let_fifty_wait(api, caplog)


async def _let_fifty_wait(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    runs = [await api.create_run() for _ in range(5)]
    waiting = [asyncio.create_task(api.get(f"/runs/{runs[n % 5]['id']}?wait={LONG}")) for n in range(50)]
    await until(lambda: api.services.followers.waiting == 50)
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        began = time.monotonic()
        await until(lambda: polls(caplog) >= 3)
        assert polls(caplog) <= (time.monotonic() - began) / POLL_SECONDS + 1
    for run in runs:
        cancel(run["id"])
    responses = await asyncio.wait_for(asyncio.gather(*waiting), SOON)
    assert {response.json()["status"] for response in responses} == {"canceled"}


async def test_without_waiting_requests_there_is_no_poll(
    serving: Serving, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Without Redis, which would report the run's creation during the wait.
    async with serving(redis_url=None) as api:
        run = await api.create_run()
        with caplog.at_level(logging.DEBUG, logger="peewee"):
            await api.get(f"/runs/{run['id']}?wait={POLL_SECONDS / 5}")
            await until(lambda: not any(task.get_name() == "followers.look" for task in asyncio.all_tasks()))
    assert polls(caplog) == 0


async def test_the_wait_of_a_client_that_disconnects_ends(api: Api) -> None:
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.followers.waiting == 1)
    waiting.cancel()
    await until(lambda: api.services.followers.waiting == 0)


async def test_waiting_requests_get_a_response_when_the_service_stops(api: Api) -> None:
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.followers.waiting == 1)
    await api.services.followers.close()
    assert (await asyncio.wait_for(waiting, SOON)).json()["status"] == "queued"


async def test_a_change_is_reported_by_redis_and_not_by_the_poll(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "POLL_SECONDS", 60)
    run = await api.create_run()
    first = asyncio.create_task(api.get(f"/runs/{(await api.create_run())['id']}?wait=1"))
    await until(lambda: api.services.followers.listening)
    await first  # and with it the last poll from before the subscription to Redis
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.followers.waiting == 1)
    cancel(run["id"])
    assert (await asyncio.wait_for(waiting, SOON)).json()["status"] == "canceled"


async def test_a_change_that_redis_does_not_report_is_found_by_the_poll(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.streams.wake_ups.channel_of", lambda fingerprint, run_id: "where nobody tells anything")
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.followers.listening and api.services.followers.waiting == 1)
    cancel(run["id"])
    assert (await asyncio.wait_for(waiting, SOON)).json()["status"] == "canceled"


async def test_a_change_of_anything_but_the_status_ends_no_wait(api: Api) -> None:
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait=1.5"))
    await until(lambda: api.services.followers.waiting == 1)
    began = time.monotonic()
    for _ in range(3):
        with transaction():
            lock_run(UUID(run["id"]))
            append_events(UUID(run["id"]), "ann", NewEvent("stage.queued", "topic_map", {}))
        broker.wake_followers(UUID(run["id"]))
    assert (await asyncio.wait_for(waiting, SOON)).json() == run
    assert time.monotonic() - began > 1


async def test_streams_and_waits_share_one_query(
    serving: Serving, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(redis_url=None) as api:
        runs = [await api.create_run() for _ in range(4)]
        waiting = [asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}")) for run in runs[:2]]
        async with open_stream(api, runs[2]["id"]) as first, open_stream(api, runs[3]["id"]) as second:
            await until(lambda: len(api.services.followers) == 4)
            with caplog.at_level(logging.DEBUG, logger="peewee"):
                began = time.monotonic()
                await until(lambda: polls(caplog) >= 3)
                assert polls(caplog) <= (time.monotonic() - began) / POLL_SECONDS + 1
            for run in runs:
                cancel(run["id"])
            responses = await asyncio.wait_for(asyncio.gather(*waiting), SOON)
            assert {response.json()["status"] for response in responses} == {"canceled"}
            assert [(await stream.rest())[-1].event for stream in (first, second)] == ["run.canceled"] * 2


@pytest.mark.parametrize("wait", ["31", "-1", "x", "", "nan", "inf", "1e3", "5&wait=5", "-0.1"])
async def test_a_wrong_wait_is_refused(refusing: Api, wait: str) -> None:
    response = await refusing.get(f"/runs/{uuid4()}?wait={wait}")
    assert response.wrong(422, "invalid_parameter") == {"wait"}


async def test_a_broken_subscription_fails_no_request(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis ends the connection again and again, and a new one takes its time, while followers come and go."""
    connect = asyncio.open_unix_connection

    async def connect_slowly(*arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0.03)
        return await connect(*arguments, **options)

    monkeypatch.setattr(asyncio, "open_unix_connection", connect_slowly)
    threads = Threads(1, 1000, "tests", limit_seconds=5)
    followers = Followers(threads, lambda ids: {id: RunHead(0, datetime.now(UTC), "queued") for id in ids}, redis_url)
    ended = asyncio.Event()

    async def follow_again_and_again() -> None:
        while not ended.is_set():
            async with followers.await_change(uuid4()) as waiter:
                await waiter.wait("queued", 0.02)

    with redis.Redis.from_url(redis_url) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(follow_again_and_again())
            for _ in range(3):
                await asyncio.sleep(1.2)
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            ended.set()
        async with followers.follow(run_id := uuid4()) as reader:
            # Until Redis has a receiver; and not by wait(), which returns after a poll, too.
            await until(lambda: client.publish(channel_of(find_fingerprint() or "", run_id), "a piece") == 1)
            await until(lambda: reader.take_notices() == ["a piece"])
    await followers.close()
    threads.close()


async def test_what_follows_all_runs_belongs_to_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "POLL_WITHOUT_REDIS_SECONDS", 0.01)
    facts: list[dict[str, Any]] = []
    threads = Threads(1, 10, "tests", limit_seconds=5)

    def read(ids: Any) -> dict[UUID, RunHead]:
        facts.append(structlog.contextvars.get_contextvars())
        return {}

    following = Followers(threads, read, None)
    with logged_with(request_id="of-the-first-who-waits"):
        async with following.await_change(uuid4()):
            await until(lambda: bool(facts))
    await following.close()
    threads.close()
    assert facts[0] == {}


async def test_a_call_on_a_thread_is_of_the_request_that_makes_it() -> None:
    threads = Threads(1, 10, "tests", limit_seconds=5)
    for request_id in ("one", "another"):
        with logged_with(request_id=request_id):
            assert await threads.run(structlog.contextvars.get_contextvars) == {"request_id": request_id}
    assert await threads.run(structlog.contextvars.get_contextvars) == {}
    threads.close()
