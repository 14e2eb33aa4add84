"""A fake model server that speaks Kimi's wire format and responds to each request as a script decides.

In a test: ``with ModelServer() as server: ... server.base_url``. As a process of its own:
``python -m tests.fakes.model_server --port 9000 --delay-min 0.2 --delay-max 2 --stall-probability 0.05``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from aiohttp import web

from tests.fakes import wire
from tests.fakes.behaviours import GOOD, Behaviour, error_body

Script = Callable[[dict[str, Any]], Behaviour]
START_SECONDS = 10.0
HELD_SECONDS = 0.01  # between two looks whether a response is still held
FIXED = frozenset({"temperature", "top_p", "n", "presence_penalty", "frequency_penalty"})


@dataclass(frozen=True, slots=True)
class Received:
    """A received request.

    Attributes:
        headers: names in lower case.
        body: the JSON object.
    """

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class ModelServer:
    """The fake server, on its own thread and event loop.

    Args:
        script: decides the behaviour when none is queued; None responds well to every request.
        port: the loopback port; 0 picks a free one.
        tls: serves over TLS with this context's certificate; None for plain HTTP.
        keepalive_seconds: closes a connection that has been idle for this long.

    Attributes:
        accepted: how many connections were accepted.
        requests: every call of ``/chat/completions``, oldest first.
        in_flight: how many calls are in progress.
        most_in_flight: the maximum of ``in_flight``.
        completed: how many calls got a complete response.
        disconnects: how many calls lost their connection before the response was complete.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        keepalive_seconds: float = 75.0,
    ) -> None:
        self.script: Script = script or (lambda body: GOOD)
        self.accepted = 0
        self.requests: list[Received] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.completed = 0
        self.disconnects = 0
        self._port = port
        self._tls = tls
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._chat)
        # With handler_cancellation, a client that disconnects cancels its handler at once. The default is to run on.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0, keepalive_timeout=keepalive_seconds
        )
        self._queue: deque[Behaviour] = deque()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="fake-model", daemon=True)

    @property
    def base_url(self) -> str:
        """The server's URL, including ``/v1``."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}/v1"

    @property
    def connected(self) -> int:
        """How many connections are open."""
        server = self._runner.server
        return len(server.connections) if server else 0

    def enqueue(self, *behaviours: Behaviour) -> None:
        """Queue behaviours for the next requests, one each; after those, the script decides."""
        self._queue.extend(behaviours)

    def reset(self) -> None:
        """Wait for the last call to end, then forget all requests and behaviours, and respond well again."""
        self.wait_until(lambda server: server.in_flight == 0)
        self.script = lambda body: GOOD
        self.requests.clear()
        self._queue.clear()
        self.most_in_flight = self.completed = self.disconnects = 0

    def wait_until(self, condition: Callable[[ModelServer], bool], *, seconds: float = 5.0) -> None:
        """Wait until a condition on this server is true.

        Raises:
            AssertionError: it did not become true in time.
        """
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), seconds), (
                f"not within {seconds:g} s: {len(self.requests)} requests, {self.in_flight} in flight,"
                f" {self.completed} completed, {self.disconnects} disconnects"
            )

    def __enter__(self) -> ModelServer:
        self._thread.start()
        assert self._started.wait(START_SECONDS), "the fake model server did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_SECONDS)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as error:
            self._failure = error
        finally:
            self._loop.close()
            self._started.set()

    async def _run(self) -> None:
        await self._runner.setup()
        try:
            listening = await self._loop.create_server(
                self._accept, "127.0.0.1", self._port, ssl=self._tls, backlog=1024
            )
            self._port = listening.sockets[0].getsockname()[1]
            self._started.set()
            await self._stopping.wait()
            listening.close()
        finally:
            await self._runner.cleanup()

    def _accept(self) -> asyncio.Protocol:
        assert self._runner.server is not None
        self.accepted += 1
        return self._runner.server()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return web.Response(status=400, body=error_body("invalid_request_error", "not JSON"))
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return web.Response(status=401, body=error_body("invalid_authentication_error", "no key"))
        if fixed := FIXED & body.keys():
            message = f"invalid {min(fixed)}: only its fixed value is allowed for this model"
            return web.Response(status=400, body=error_body("invalid_request_error", message))
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            async with self._counted(Received(request.path, headers, body)):
                return await self._respond(request, body)
        except ConnectionError:  # the client is gone; aiohttp would log it as an error of ours
            return web.Response()

    async def _respond(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        behaviour = self._queue.popleft() if self._queue else self.script(body)
        await asyncio.sleep(behaviour.delay)
        while behaviour.held_until is not None and not behaviour.held_until.is_set():
            await asyncio.sleep(HELD_SECONDS)
        if behaviour.silent:
            await _wait_for_disconnect()
        if behaviour.hangs_up and request.transport is not None:
            request.transport.close() if behaviour.hangs_up == "politely" else request.transport.abort()
            await _wait_for_disconnect()
        if behaviour.body is not None:
            return _plain(behaviour)
        if not (behaviour.streamed and body.get("stream")):
            return web.json_response(wire.whole(body, behaviour), headers=behaviour.headers)
        return await _stream(request, body, behaviour)

    @asynccontextmanager
    async def _counted(self, received: Received) -> AsyncIterator[None]:
        self._note(lambda: self.requests.append(received), in_flight=1)
        try:
            yield
        except (asyncio.CancelledError, ConnectionError):
            self._note(self._count_disconnect, in_flight=-1)
            raise
        except BaseException:
            self._note(lambda: None, in_flight=-1)
            raise
        self._note(self._count_completed, in_flight=-1)

    def _note(self, change: Callable[[], None], *, in_flight: int) -> None:
        with self._changed:
            change()
            self.in_flight += in_flight
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.notify_all()

    def _count_disconnect(self) -> None:
        self.disconnects += not self._stopping.is_set()

    def _count_completed(self) -> None:
        self.completed += 1


async def _stream(request: web.Request, body: dict[str, Any], behaviour: Behaviour) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", **behaviour.headers})
    await response.prepare(request)
    text = wire.text_of(body, behaviour)
    await response.write(wire.beginning(body, behaviour))
    pieces = wire.pieces(body, behaviour, text)
    for number in range(len(pieces) + 1):
        if number == behaviour.drop_after and request.transport is not None:
            request.transport.abort()
            await _wait_for_disconnect()
        if number == behaviour.stall_after:
            while behaviour.stall_with:
                await response.write(behaviour.stall_with)
                await asyncio.sleep(0.1)
            await _wait_for_disconnect()
        if number == behaviour.stop_after:
            return response
        await asyncio.sleep(behaviour.pause)
        await response.write(pieces[number] if number < len(pieces) else wire.ending(body, behaviour, text))
    return response


async def _wait_for_disconnect() -> None:
    await asyncio.Event().wait()  # aiohttp cancels the handler when the client disconnects


def _plain(behaviour: Behaviour) -> web.Response:
    headers = {"Content-Type": "application/json; charset=utf-8", **behaviour.headers}
    return web.Response(status=behaviour.status, body=behaviour.body, headers=headers)


def random_script(delay_min: float, delay_max: float, stall_probability: float, *, seed: int | None = None) -> Script:
    """Return a script that responds after random delays, and stalls some of the responses for ever."""
    dice = random.Random(seed)

    def behave(body: dict[str, Any]) -> Behaviour:
        stall_after = 1 if dice.random() < stall_probability else None
        return Behaviour(delay=dice.uniform(delay_min, delay_max), stall_after=stall_after)

    return behave


def main(arguments: Iterable[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-min", type=float, default=0.0, help="seconds before the first byte")
    parser.add_argument("--delay-max", type=float, default=0.0)
    parser.add_argument("--stall-probability", type=float, default=0.0)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(None if arguments is None else list(arguments))
    script = random_script(
        options.delay_min,
        max(options.delay_min, options.delay_max),
        options.stall_probability,
        seed=options.seed,
    )
    with ModelServer(script, port=options.port) as server:
        print(server.base_url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
