"""A line in the log for each request, at its end, without anything secret."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.api.client import Api, until
from tests.api.conftest import MANAGED, TOKEN, Serving
from tests.api.streams import open_stream
from tests.support.raw_http import answer_to
from vm_webapp.settings import Settings
from vm_webapp.trusted_proxies import parse_networks

FIELDS = ("method", "route", "path", "status", "actor")
RUN = "/api/v2/runs/{run_id}"
RUN_ID = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"


@pytest.fixture(autouse=True)
def _shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="api.requests")


async def lines(caplog: pytest.LogCaptureFixture, count: int) -> list[dict[str, Any]]:
    """Wait for so many lines and return them."""

    def logged() -> list[dict[str, Any]]:
        return [vars(record) for record in caplog.records if record.name == "api.requests"]

    await until(lambda: len(logged()) >= count)
    assert len(logged()) == count
    assert {line["msg"] for line in logged()} == {"request.done"}
    return logged()


def facts(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a line says, but for time, size and id."""
    return tuple(line[name] for name in FIELDS)


async def test_a_line_says_what_was_asked_by_whom_and_how_it_ended(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    created = await api.post("/runs", {"workflow": "smoke", "request": "x"}, headers={"X-Request-ID": "mine-1"})
    run_id = created.json()["id"]
    read = await api.get(f"/runs/{run_id}?wait=0")
    missing = await api.get("/nothing/at/all")
    first, second, third = await lines(caplog, 3)
    assert facts(first) == ("POST", "/api/v2/runs", "/api/v2/runs", 201, "local")
    assert facts(second) == ("GET", RUN, f"/api/v2/runs/{run_id}", 200, "local")
    assert facts(third) == ("GET", None, "/api/v2/nothing/at/all", 404, "local")
    assert first["request_id"] == "mine-1"
    assert [line["request_id"] for line in (second, third)] == [
        each.headers["X-Request-ID"] for each in (read, missing)
    ]
    assert second["bytes"] > len(read.body)
    assert 0 <= second["ms"] < 10_000


async def test_no_token_header_or_query_is_logged(
    serving: Serving, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(MANAGED, require_token=True) as managed:
        await managed.get("/runs?status=s3cret", headers={"Authorization": f"Bearer {TOKEN}"})
        await managed.get("/runs?cursor=s3cret", headers={"Authorization": "Bearer wr0ng"})
        known, unknown = await lines(caplog, 2)
    assert facts(known)[3:] == (422, "admin")
    assert facts(unknown)[3:] == (401, None)
    for line in (known, unknown):
        assert not any(secret in repr(line) for secret in ("s3cret", "wr0ng", TOKEN, "Bearer"))


async def test_a_key_in_a_path_is_not_logged(serving: Serving, database: str, caplog: pytest.LogCaptureFixture) -> None:
    key, token = f"vmk_{'k' * 43}", "0123456789abcdef0123456789abcdef"
    async with serving(MANAGED, require_token=True) as managed:
        managed.session.headers["Authorization"] = f"Bearer {TOKEN}"
        for path in (f"/runs/{key}", f"/{token}/{key}/runs", f"/runs/{RUN_ID}/events;{token}", f"/workflows/{TOKEN}"):
            assert (await managed.get(path)).status >= 400
        shown = [line["path"] for line in await lines(caplog, 4)]
    assert shown == [f"/api/v2{path}" for path in ("/runs/…", "/…/runs", f"/runs/{RUN_ID}/…", "/workflows/…")]


async def test_probes_and_scrapes_are_logged_only_when_they_fail(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    assert (await api.get("/health/live")).status == 200
    assert (await api.request("HEAD", "/health/live")).status == 200
    assert (await api.request("GET", "/metrics", prefix="")).status == 200
    assert (await api.get("/health/ready")).status == 503, "no worker runs"
    (line,) = await lines(caplog, 1)
    assert facts(line)[1:4] == ("/api/v2/health/ready", "/api/v2/health/ready", 503)


async def test_a_stream_is_logged_when_it_ends(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    run_id = (await api.create_run())["id"]
    async with open_stream(api, run_id) as stream:
        await stream.next()
        await lines(caplog, 1)
        await api.post(f"/runs/{run_id}/cancel", {})
        await stream.rest()
    line = next(line for line in await lines(caplog, 3) if line["route"] == f"{RUN}/events")
    assert (line["status"], line["bytes"] > 100) == (200, True)


async def test_a_client_that_leaves_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    run_id = (await api.create_run())["id"]
    async with open_stream(api, run_id) as stream:
        await stream.next()
        stream.response.close()
    stream_line = (await lines(caplog, 2))[1]
    assert (stream_line["route"], stream_line["status"]) == (f"{RUN}/events", 200)
    waiting = asyncio.create_task(api.get(f"/runs/{run_id}?wait=30"))
    await until(lambda: api.services.followers.waiting == 1)
    waiting.cancel()
    wait_line = (await lines(caplog, 3))[2]
    assert facts(wait_line) == ("GET", RUN, f"/api/v2/runs/{run_id}", 499, "local")
    assert wait_line["bytes"] == 0


async def test_what_is_not_http_is_one_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    response = await answer_to(api.base_url, b"GET /api/v2/runs?token=s3cret HTTP/9\r\n\r\n")
    (line,) = await lines(caplog, 1)
    assert facts(line) == (None, None, None, 400, None)
    assert (line["kind"], line["request_id"]) == ("request_line", response.headers["X-Request-ID"])
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(line)


@pytest.mark.parametrize(
    ("trusted", "address"), [("127.0.0.1", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1"), (None, "127.0.0.1")]
)
async def test_the_address_is_that_of_the_client_behind_a_trusted_proxy(
    serving: Serving, untouched: None, caplog: pytest.LogCaptureFixture, trusted: str | None, address: str
) -> None:
    settings = Settings(trusted_proxies=parse_networks(trusted) if trusted else ())
    async with serving(settings) as api:
        await api.get("/runs", headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.7"})
        await api.get("/nothing", headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.7:51234, 127.0.0.1"})
        await api.get("/runs", headers={"X-Forwarded-For": "x" * 8000})
        first, second, garbage = await lines(caplog, 3)
    assert [line["address"] for line in (first, second, garbage)] == [address, address, "127.0.0.1"]
