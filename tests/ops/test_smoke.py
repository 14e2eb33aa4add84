"""The smoke test against servers that are not this API: it fails soon, with one line that says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from tests.fakes.stranger import deaf, hanging, responding
from tests.support.resolver import hanging_resolver
from vm_webapp.client import open_api
from vm_webapp.ops.smoke import Smoke, SmokeOptions, Step
from vm_webapp.ops.smoke.rollout import is_build

TIMEOUT_SECONDS = 0.5
LIVE = '{"status":"live"}'


async def steps_against(address: str, *, wait_seconds: float | None = None) -> list[Step]:
    """Return the executed steps; each must have been reported as soon as it had ended."""
    reported: list[Step] = []
    async with open_api(address, trust_env=False, timeout_seconds=TIMEOUT_SECONDS) as api:
        options = SmokeOptions(address, wait_seconds, with_model=False, timeout_seconds=TIMEOUT_SECONDS)
        steps = await Smoke(options, api, token=lambda: None, on_step=reported.append).run()
    assert reported == steps
    return steps


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://127.0.0.1:1", "cannot be reached"),
        ("http://no-such-host.invalid", "cannot be reached"),
    ],
)
async def test_a_wrong_url_is_one_clear_line(address: str, text: str) -> None:
    (step,) = await steps_against(address)
    assert (step.name, step.ok, text in step.detail) == ("live", False, True), step
    assert "--base-url" in step.detail
    assert "\n" not in step.detail


async def test_a_connection_that_is_not_opened_in_time_was_no_request() -> None:
    with deaf() as address, hanging_resolver("api.internal"):
        for each in (address, "http://api.internal"):
            (step,) = await steps_against(each)
            assert step.detail.startswith(f"{each} cannot be reached (no connection in time): check --base-url"), step


@pytest.mark.parametrize("text", ["<html>Welcome to nginx</html>", '{"status": "live"}', '{"status":"up"}', ""])
async def test_a_200_of_something_else_is_not_this_api(text: str) -> None:
    async with responding(lambda request: web.Response(text=text, content_type="application/json")) as address:
        (step,) = await steps_against(address)
    assert (step.name, step.ok) == ("live", False)
    assert "is not this API" in step.detail


async def test_a_redirect_is_not_followed() -> None:
    async with responding(lambda request: web.Response(status=302, headers={"Location": "/elsewhere"})) as address:
        (step,) = await steps_against(address)
    assert "it responded with 302" in step.detail


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"])
async def test_a_server_that_hangs_is_not_waited_for(greeting: bytes) -> None:
    async with hanging(greeting) as address:
        (step,) = await steps_against(address)
    assert (step.name, step.ok) == ("live", False)
    assert "did not respond in time" in step.detail
    assert step.seconds < 2


async def test_it_waits_for_liveness_while_a_proxy_responds_in_place_of_the_api() -> None:
    texts = ["<html>502 Bad Gateway</html>", "<html>502 Bad Gateway</html>", LIVE]

    def respond(request: web.Request) -> web.Response:
        if request.path.endswith("/live"):
            text = texts.pop(0)
            return web.Response(status=200 if text == LIVE else 502, text=text)
        return web.json_response({"status": "not_ready", "reasons": ["no worker"]}, status=503)

    async with responding(respond) as address:
        live, ready = await steps_against(address, wait_seconds=3)
    assert (live.ok, texts) == (True, [])
    assert ready.detail == "not ready within 3 s: no worker"


async def test_an_api_that_never_becomes_live_fails_with_the_time_that_it_had() -> None:
    (step,) = await steps_against("http://127.0.0.1:1", wait_seconds=0.6)
    assert (step.name, step.ok) == ("live", False)
    assert step.detail.startswith("no sign of life within 0.6 s: http://127.0.0.1:1 cannot be reached")


async def test_it_waits_for_readiness_and_then_reports_the_reasons() -> None:
    polls: list[str] = []

    def respond(request: web.Request) -> web.Response:
        if request.path.endswith("/live"):
            return web.Response(text=LIVE, content_type="application/json")
        polls.append(request.path)
        return web.json_response({"status": "not_ready", "reasons": ["no worker has ever used it"]}, status=503)

    async with responding(respond) as address:
        live, ready = await steps_against(address, wait_seconds=1.2)
    assert (live.ok, ready.ok, ready.name) == (True, False, "ready")
    assert "no worker has ever used it" in ready.detail
    assert len(polls) >= 2


async def test_a_response_of_another_shape_fails_the_step_and_cancels_the_run() -> None:
    canceled: list[str] = []

    def respond(request: web.Request) -> web.Response:
        path = request.path.removeprefix("/api/v2")
        if path == "/health/live":
            return web.Response(text=LIVE, content_type="application/json")
        if path == "/health/ready":
            return web.json_response({"status": "ready", "dependencies": {}})
        if path.endswith("/cancel"):
            canceled.append(path)
        return web.json_response({"id": "r1"} if request.method == "POST" else {})

    async with responding(respond) as address:
        steps = await steps_against(address)
    assert (steps[-1].name, steps[-1].ok) == ("worker", False)
    assert "not one of this API" in steps[-1].detail
    assert canceled == ["/runs/r1/cancel"]


@pytest.mark.parametrize(
    "body",
    [
        {"status": "ready", "dependencies": []},
        {"status": "ready", "dependencies": {"database": "ok"}},
        {"status": "ready", "dependencies": {"database": {}}},
        {"status": "ready"},
        {"status": "not_ready", "reasons": 7},
        [],
    ],
)
async def test_readiness_of_another_shape_is_not_ready(body: Any) -> None:
    def respond(request: web.Request) -> web.Response:
        return web.Response(text=LIVE) if request.path.endswith("/live") else web.json_response(body)

    async with responding(respond) as address:
        live, ready = await steps_against(address, wait_seconds=0)
    assert (live.ok, ready.ok) == (True, False)
    assert ready.detail.startswith("it responded with 200")


@pytest.mark.parametrize(
    ("build", "expected", "same"),
    [
        ("1.0.0+0123456789ab", "0123456789abcdef0123456789abcdef01234567", True),
        ("1.0.0+0123456789ab", "0123456", True),
        ("1.0.0+0123456789ab", "1.0.0+0123456789ab", True),
        ("1.0.0", "1.0.0", True),
        ("1.0.0+0123456789ab", "1.0.0", False),
        ("1.0.0+0123456789ab", "012345", False),
        ("1.0.0+0123456789ab", "f" * 40, False),
        ("1.0.0", "f" * 40, False),
    ],
)
def test_a_build_is_named_by_its_version_and_commit_or_by_the_commit(build: str, expected: str, same: bool) -> None:
    assert is_build(build, expected) is same
