"""Reads of many clients at once: few statements, and for each client what it would get alone."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tests.api.client import NEW_RUN, Api
from tests.support.fleet import beat, change
from tests.support.statements import Traffic

MANY = 40


@pytest.fixture
async def with_runs(watched: tuple[Api, Traffic]) -> tuple[Api, Traffic]:
    """An API that has some runs, and its traffic."""
    api, traffic = watched
    beat()
    for number in range(5):
        await api.create_run(request=f"run {number}")
    return api, traffic


@pytest.mark.parametrize("path", ["/queue", "/runs?limit=3"])
async def test_equal_reads_share_one(with_runs: tuple[Api, Traffic], path: str) -> None:
    api, traffic = with_runs
    expected = await api.get(path)
    traffic.taken()
    responses = await asyncio.gather(*(api.get(path) for _ in range(MANY)))
    assert len(traffic.taken()) < MANY / 2
    if path == "/queue":  # ages grow
        assert {response.json()["due"] for response in responses} == {5}
    else:
        assert {response.body for response in responses} == {expected.body}


async def test_other_filters_are_other_reads(with_runs: tuple[Api, Traffic]) -> None:
    api, _ = with_runs
    paths = [f"/runs?limit={limit}" for limit in range(1, 5)] + ["/runs?status=completed"]
    responses = await asyncio.gather(*(api.get(path) for path in paths * 4))
    assert [len(response.json()["items"]) for response in responses] == [1, 2, 3, 4, 0] * 4


async def test_different_runs_are_read_by_few_statements(with_runs: tuple[Api, Traffic]) -> None:
    api, traffic = with_runs
    runs = (await api.get("/runs")).json()["items"]
    ids = [run["id"] for run in runs] + [str(uuid4())]
    traffic.taken()
    responses = await asyncio.gather(*(api.get(f"/runs/{ids[n % 6]}") for n in range(MANY)))
    assert len(traffic.taken()) < MANY / 2
    for number, response in enumerate(responses):
        if number % 6 == 5:
            assert response.problem(404, "not_found")["detail"] == f"there is no run {ids[5]}"
        else:
            assert (response.status, response.json()) == (200, runs[number % 6])


async def test_what_has_changed_before_a_request_is_in_its_response(api: Api) -> None:
    """However many others are being answered at that moment."""
    run = await api.create_run()
    ended = asyncio.Event()

    async def read_again_and_again() -> None:
        while not ended.is_set():
            await asyncio.gather(api.get(f"/runs/{run['id']}"), api.get("/runs"), api.get("/queue"))

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(read_again_and_again())
        for number in range(10):
            await asyncio.to_thread(change, "UPDATE runs SET request = %(text)s", text=f"change {number}")
            await api.post(f"/queue/{'pause' if number % 2 else 'resume'}", {})
            one, page, queue = await asyncio.gather(api.get(f"/runs/{run['id']}"), api.get("/runs"), api.get("/queue"))
            assert one.json()["request"] == page.json()["items"][0]["request"] == f"change {number}"
            assert queue.json()["paused"] == bool(number % 2)
        ended.set()


async def test_a_created_run_is_in_the_list_at_once(api: Api) -> None:
    for _ in range(5):
        created, *_ = await asyncio.gather(api.post("/runs", NEW_RUN), *(api.get("/runs") for _ in range(10)))
        assert (await api.get("/runs?limit=1")).json()["items"][0]["id"] == created.json()["id"]
