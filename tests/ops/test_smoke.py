"""The smoke test against what is no deployment: one line that says what is wrong, soon, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web

from vm_webapp.ops.smoke import Smoke, SmokeOptions, Step

ANSWER_SECONDS = 0.5
LIVE = '{"status":"live"}'


@asynccontextmanager
async def server(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    """Serve this answer to every request; yield the address."""

    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def steps_against(address: str, *, wait_seconds: float = 0) -> list[Step]:
    """Return the steps made; each must have been told as it was made."""
    told: list[Step] = []
    async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
        options = SmokeOptions(address, wait_seconds, with_model=False, answer_seconds=ANSWER_SECONDS)
        steps = await Smoke(options, http, token=lambda: None, on_step=told.append).run()
    assert told == steps
    return steps


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:1", "cannot be reached"),
        ("http://no-such-host.invalid", "cannot be reached"),
    ],
)
async def test_a_wrong_url_is_one_clear_line(address: str, said: str) -> None:
    (step,) = await steps_against(address)
    assert (step.name, step.ok, said in step.detail) == ("live", False, True), step
    assert "--base-url" in step.detail
    assert "\n" not in step.detail


@pytest.mark.parametrize("text", ["<html>Welcome to nginx</html>", '{"status": "live"}', '{"status":"up"}', ""])
async def test_a_200_of_something_else_is_not_this_api(text: str) -> None:
    async with server(lambda request: web.Response(text=text, content_type="application/json")) as address:
        (step,) = await steps_against(address)
    assert (step.name, step.ok) == ("live", False)
    assert "is not this API" in step.detail


async def test_a_redirect_is_not_followed() -> None:
    async with server(lambda request: web.Response(status=302, headers={"Location": "/elsewhere"})) as address:
        (step,) = await steps_against(address)
    assert "it answered 302" in step.detail


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"])
async def test_a_server_that_hangs_is_given_up(greeting: bytes) -> None:
    over = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await over.wait()
        writer.close()

    listening = await asyncio.start_server(hang, "127.0.0.1", 0)
    try:
        (step,) = await steps_against(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    finally:
        over.set()
        listening.close()
    assert (step.name, step.ok) == ("live", False)
    assert "did not answer in time" in step.detail
    assert step.seconds < 2


async def test_readiness_is_waited_for_and_then_its_reasons_are_told() -> None:
    asked: list[str] = []

    def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/live"):
            return web.Response(text=LIVE, content_type="application/json")
        asked.append(request.path)
        return web.json_response({"status": "not_ready", "reasons": ["no worker has ever used it"]}, status=503)

    async with server(answer) as address:
        live, ready = await steps_against(address, wait_seconds=1.2)
    assert (live.ok, ready.ok, ready.name) == (True, False, "ready")
    assert "no worker has ever used it" in ready.detail
    assert len(asked) >= 2


async def test_an_answer_of_another_shape_fails_the_step_and_cancels_what_was_created() -> None:
    canceled: list[str] = []

    def answer(request: web.Request) -> web.Response:
        path = request.path.removeprefix("/api/v2")
        if path == "/health/live":
            return web.Response(text=LIVE, content_type="application/json")
        if path == "/health/ready":
            return web.json_response({"status": "ready", "dependencies": {}})
        if path.endswith("/cancel"):
            canceled.append(path)
        return web.json_response({"id": "r1"} if request.method == "POST" else {})

    async with server(answer) as address:
        steps = await steps_against(address)
    assert (steps[-1].name, steps[-1].ok) == ("worker", False)
    assert "not one of this API" in steps[-1].detail
    assert canceled == ["/runs/r1/cancel"]
