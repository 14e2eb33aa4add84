"""An outage of the database: 503 without internal details, probes that report it, and recovery without an operator."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from uuid import uuid4

import pytest

from actors import broker, connected
from tests.api.client import NEW_RUN, Api, until, written
from tests.api.conftest import PROBE_SECONDS, REQUEST_SECONDS
from tests.fakes.tcp_proxy import Proxy
from tests.support.links import LINKS, POSTGRES_SOCKET
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat

INTERNAL = (POSTGRES_SOCKET, LINKS, "postgres", "connection to server", "psycopg2", "VM_DB_URL")


def unavailable_paths() -> list[str]:
    run = "/runs/0192f0c8-5a4e-7cc1-9d0e-3f5b8a7c6d21"
    return ["/runs", run, f"{run}?wait=1", f"{run}/events", f"{run}/artifacts", f"{run}/artifacts/plan"]


@pytest.mark.parametrize("path", unavailable_paths())
async def test_a_read_without_the_database_is_a_503_without_internal_details(
    behind_proxy: Api, proxy: Proxy, path: str
) -> None:
    proxy.cut()
    response = await behind_proxy.get(path)
    response.problem(503, "database_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert not [word for word in INTERNAL if word in response.body.decode()]


async def test_a_write_without_the_database_is_a_503_and_works_when_it_is_back(behind_proxy: Api, proxy: Proxy) -> None:
    before = written()
    proxy.cut()
    (await behind_proxy.post("/runs", NEW_RUN)).problem(503, "database_unavailable")
    proxy.restore()
    assert written() == before
    assert (await behind_proxy.post("/runs", NEW_RUN)).status == 201


async def test_every_connection_that_broke_is_replaced(behind_proxy: Api, proxy: Proxy) -> None:
    first = await asyncio.gather(*(behind_proxy.get("/runs") for _ in range(20)))
    proxy.cut()
    broken = await asyncio.gather(*(behind_proxy.get("/runs") for _ in range(20)))
    proxy.restore()
    last = await asyncio.gather(*(behind_proxy.get("/runs") for _ in range(20)))
    assert [{response.status for response in responses} for responses in (first, broken, last)] == [{200}, {503}, {200}]


async def test_during_an_outage_readiness_says_why_and_liveness_stays_200(behind_proxy: Api, proxy: Proxy) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    assert (await behind_proxy.get("/health/ready")).status == 200
    proxy.cut()
    response = await behind_proxy.get("/health/ready", headers={"Authorization": ""})
    body = response.json()
    assert (response.status, body["status"]) == (503, "not_ready")
    assert "PostgreSQL" in body["reasons"][0]
    assert body["dependencies"]["database"] == {"status": "down"}
    assert body["dependencies"]["redis"] == {"status": "ok"}
    assert (await behind_proxy.get("/health/live")).body == b'{"status":"live"}'
    assert (await behind_proxy.get("/workflows")).status == 200
    proxy.restore()
    assert (await behind_proxy.get("/health/ready")).status == 200


async def test_a_database_that_never_responds_is_detected(behind_proxy: Api, proxy: Proxy) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    assert (await behind_proxy.get("/runs")).status == 200
    proxy.stall()
    began = time.monotonic()
    responses = await asyncio.gather(*(behind_proxy.get("/runs") for _ in range(20)))
    for response in responses:
        response.problem(503, "no_answer_in_time")
    for _ in range(2):
        ready = await behind_proxy.get("/health/ready")
        assert (ready.status, ready.json()["status"]) == (503, "not_ready")
        assert "did not respond" in ready.json()["reasons"][0]
    assert (await behind_proxy.get("/health/live")).status == 200
    assert time.monotonic() - began < REQUEST_SECONDS + 2 * PROBE_SECONDS + 3
    proxy.restore()
    assert (await behind_proxy.get("/runs")).status == 200
    assert (await behind_proxy.get("/health/ready")).status == 200


async def test_a_schema_that_was_changed_by_hand_is_not_ready_with_its_reason(behind_proxy: Api) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    with transaction():
        execute("DROP TABLE providers CASCADE")
    response = await behind_proxy.get("/health/ready", headers={"Authorization": ""})
    body = response.json()
    assert (response.status, body["status"]) == (503, "not_ready")
    assert 'the schema is not what its migrations say (relation "providers" does not exist)' in body["reasons"][0]
    assert (body["dependencies"]["database"], body["dependencies"]["migrations"]) == (
        {"status": "ok"},
        {"status": "incompatible"},
    )
    assert (await behind_proxy.get("/health/live")).status == 200


async def test_a_slow_database_is_only_slow(behind_proxy: Api, proxy: Proxy) -> None:
    await behind_proxy.get("/runs")
    proxy.delay(0.02)
    assert (await behind_proxy.get("/runs")).status == 200


async def test_a_waiting_request_survives_an_outage(behind_proxy: Api, proxy: Proxy) -> None:
    run = await behind_proxy.create_run()
    waiting = asyncio.create_task(behind_proxy.get(f"/runs/{run['id']}?wait=2"))
    await until(lambda: behind_proxy.services.followers.waiting == 1)
    proxy.cut()
    (await behind_proxy.get("/runs")).problem(503, "database_unavailable")
    proxy.restore()
    assert (await waiting).json() == run


async def test_requests_beyond_the_waiting_line_are_refused_at_once(behind_proxy: Api, proxy: Proxy) -> None:
    await behind_proxy.get("/brands")
    proxy.stall()
    responses = await asyncio.gather(*(behind_proxy.get("/brands") for _ in range(7 + 64 + 9)))
    codes = [response.json()["type"] for response in responses]
    assert codes.count("/problems/overloaded") == 9
    assert all(response.headers["Retry-After"] for response in responses)
    proxy.restore()
    assert (await behind_proxy.get("/brands")).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_is_done_together_waits_no_longer_for_a_database_that_hangs(
    behind_proxy: Api, proxy: Proxy, method: str
) -> None:
    send = partial(behind_proxy.request, method, "/runs", json=NEW_RUN if method == "POST" else None)
    await send()
    proxy.stall()
    began = asyncio.get_running_loop().time()
    responses = await asyncio.gather(*(send() for _ in range(100)))
    took = asyncio.get_running_loop().time() - began
    assert took < 2 * REQUEST_SECONDS, "one that waited for its turn waited as long again"
    assert {response.status for response in responses} == {503}
    assert all(response.headers["Retry-After"] for response in responses)
    proxy.restore()
    assert (await send()).status in (200, 201)


async def test_a_run_is_created_without_redis(behind_proxy: Api) -> None:
    with connected("redis://127.0.0.1:1/0"):
        failed = broker.hints_failed
        run = await behind_proxy.create_run()
        assert run["status"] == "queued"
        await until(lambda: broker.hints_failed > failed)
