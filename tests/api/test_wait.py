"""GET /runs/{id}?wait=: the answer comes with the change, and waiting costs next to nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from uuid import UUID, uuid4

import pytest

from api.streams.watch import POLL_SECONDS
from tests.api.client import Api, until
from vm_webapp.runs import lifecycle

LONG = 30
SOON = 5.0  # far below LONG, far above what an answer takes


def cancel(run_id: str) -> None:
    assert lifecycle.cancel_run_if_open(UUID(run_id), actor="tests")


def polls(caplog: pytest.LogCaptureFixture) -> int:
    return sum('"t1"."status" FROM "runs"' in record.getMessage() for record in caplog.records)


async def test_the_answer_comes_as_soon_as_the_status_changes(api: Api) -> None:
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.watcher.waiting == 1)
    cancel(run["id"])
    reply = await asyncio.wait_for(waiting, SOON)
    assert (reply.status, reply.json()["status"]) == (200, "canceled")


@pytest.mark.parametrize("wait", ["0.3", "1"])
async def test_without_a_change_the_answer_comes_when_the_time_is_over(api: Api, wait: str) -> None:
    run = await api.create_run()
    began = time.monotonic()
    reply = await api.get(f"/runs/{run['id']}?wait={wait}")
    assert float(wait) <= time.monotonic() - began < float(wait) + SOON
    assert reply.json() == run


async def test_a_final_run_is_answered_at_once(api: Api) -> None:
    run = await api.create_run()
    cancel(run["id"])
    reply = await asyncio.wait_for(api.get(f"/runs/{run['id']}?wait={LONG}"), SOON)
    assert reply.json()["status"] == "canceled"


async def test_a_run_that_does_not_exist_is_answered_at_once(refusing: Api) -> None:
    (await asyncio.wait_for(refusing.get(f"/runs/{uuid4()}?wait={LONG}"), SOON)).problem(404, "not_found")


async def test_fifty_who_wait_cost_one_query_a_poll(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    runs = [await api.create_run() for _ in range(5)]
    waiting = [asyncio.create_task(api.get(f"/runs/{runs[n % 5]['id']}?wait={LONG}")) for n in range(50)]
    await until(lambda: api.services.watcher.waiting == 50)
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        began = time.monotonic()
        await until(lambda: polls(caplog) >= 3)
        assert polls(caplog) <= (time.monotonic() - began) / POLL_SECONDS + 1
    for run in runs:
        cancel(run["id"])
    replies = await asyncio.wait_for(asyncio.gather(*waiting), SOON)
    assert {reply.json()["status"] for reply in replies} == {"canceled"}


async def test_nobody_waiting_costs_no_query(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    run = await api.create_run()
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        await api.get(f"/runs/{run['id']}?wait={POLL_SECONDS / 5}")
        await until(lambda: not any("RunWatcher" in repr(task) for task in asyncio.all_tasks()))
    assert polls(caplog) == 0


async def test_a_caller_who_goes_away_is_waited_for_no_longer(api: Api) -> None:
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.watcher.waiting == 1)
    waiting.cancel()
    await until(lambda: api.services.watcher.waiting == 0)


async def test_whoever_waits_is_answered_when_the_service_stops(api: Api) -> None:
    run = await api.create_run()
    waiting = asyncio.create_task(api.get(f"/runs/{run['id']}?wait={LONG}"))
    await until(lambda: api.services.watcher.waiting == 1)
    await api.services.watcher.close()
    assert (await asyncio.wait_for(waiting, SOON)).json()["status"] == "queued"


@pytest.mark.parametrize("wait", ["31", "-1", "x", "", "nan", "inf", "1e3", "5&wait=5", "-0.1"])
async def test_a_time_that_cannot_be_waited_is_named(refusing: Api, wait: str) -> None:
    reply = await refusing.get(f"/runs/{uuid4()}?wait={wait}")
    assert reply.wrong(422, "invalid_parameter") == {"wait"}
