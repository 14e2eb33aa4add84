"""How many connections model calls open, and calls on one that the server has closed or is just closing."""

from __future__ import annotations

import asyncio
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Literal

import pytest

from tests.fakes.behaviours import Behaviour, chunk, completion, delayed, refusal, stalled
from tests.fakes.model_server import ModelServer
from tests.fakes.wire import PIECE_CHARACTERS
from tests.llm.assignments import an_assignment
from tests.llm.providers import a_provider
from tests.support.waiting import eventually
from vm_webapp.llm import connections
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.errors import LLMConnectionError, LLMOverloaded
from vm_webapp.llm.kimi import KimiProvider

THREADS, CALLS = 20, 100
MOST_STEPS_OF_A_PIECE = 60
MOST_STEPS = 1_000  # function calls; with httpx and its pool there were more than three times as many


class TestCallsOfAWorkersThreads:
    def test_a_connection_is_opened_for_each_thread_and_not_for_each_call(self, model: ModelServer) -> None:
        self.call_in_two_waves(model)

    def test_over_tls_as_well(self, certificate: ssl.SSLContext) -> None:
        with ModelServer(tls=certificate) as model:
            self.call_in_two_waves(model)

    def call_in_two_waves(self, model: ModelServer) -> None:
        model.script = lambda body: delayed(0.01)
        calls, provider = CallLoop(), a_provider(model.base_url)
        with ThreadPoolExecutor(THREADS) as threads:

            def call(number: int) -> str:
                return calls.submit(provider, an_assignment(), timeout_seconds=20).result().text

            assert all(threads.map(call, range(CALLS)))
            opened = model.accepted
            assert opened <= THREADS
            # The second wave has as many calls at the same time as the first at most had.
            assert all(threads.map(call, range(model.most_in_flight)))
        assert model.accepted == opened
        calls.close(provider)
        eventually(lambda: model.connected == 0, "the connections are closed with the provider")


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(),
        Behaviour(streamed=False),
        Behaviour(insert=chunk(delta={"content": "# T"}, finish_reason="stop"), stop_after=0),
        refusal(503, "engine_overloaded_error", "busy"),
    ],
    ids=["[DONE]", "one JSON object", "no [DONE]", "an error"],
)
async def test_a_response_of_any_kind_leaves_the_connection_for_the_next_call(
    server: ModelServer, behaviour: Behaviour
) -> None:
    provider, before = a_provider(server.base_url), server.accepted
    server.script = lambda body: behaviour
    for _ in range(3):
        try:
            await provider.complete(an_assignment())
        except LLMOverloaded:
            assert behaviour.status == 503
    assert server.accepted == before + 1
    await provider.aclose()


async def test_a_server_that_holds_a_finished_response_open_costs_a_connection_and_no_time(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vm_webapp.llm.kimi.AFTER_FINISH_SECONDS", 3600.0)
    provider, before = a_provider(server.base_url), server.accepted
    done = chunk(delta={"content": "# T"}, finish_reason="stop") + b"data: [DONE]\n\n"
    server.script = lambda body: Behaviour(insert=done, stall_after=0)
    for _ in range(2):
        assert (await provider.complete(an_assignment())).text == "# T"
    assert server.accepted == before + 2
    await provider.aclose()


async def test_a_canceled_call_leaves_no_connection_behind(model: ModelServer) -> None:
    provider = a_provider(model.base_url)
    model.enqueue(stalled())
    call = asyncio.create_task(provider.complete(an_assignment()))
    await asyncio.to_thread(model.wait_until, lambda s: s.in_flight == 1)
    call.cancel()
    await asyncio.to_thread(eventually, lambda: model.connected == 0, "the connection is closed")
    assert (await provider.complete(an_assignment())).text
    await provider.aclose()


class TestAConnectionThatTheServerCloses:
    async def test_one_that_was_closed_while_it_was_idle_is_replaced(self) -> None:
        with ModelServer(keepalive_seconds=0.05) as server:
            provider = a_provider(server.base_url)
            for number in (1, 2, 3):
                assert (await provider.complete(an_assignment())).text
                assert (server.accepted, len(server.requests)) == (number, number)
                await asyncio.to_thread(eventually, lambda: server.connected == 0, "the idle connection is closed")
            await provider.aclose()

    @pytest.mark.parametrize("how", ["politely", "abruptly"])
    async def test_a_request_that_meets_the_close_is_sent_again_on_a_new_connection(
        self, server: ModelServer, how: Literal["politely", "abruptly"]
    ) -> None:
        provider = a_provider(server.base_url)
        await provider.complete(an_assignment())
        before = server.accepted
        server.enqueue(Behaviour(hangs_up=how))
        assert (await provider.complete(an_assignment())).text
        assert (server.accepted - before, len(server.requests)) == (1, 3)
        await provider.aclose()

    async def test_a_new_connection_that_breaks_fails_the_call(self, server: ModelServer) -> None:
        provider = a_provider(server.base_url)
        server.enqueue(Behaviour(hangs_up="abruptly"))
        with pytest.raises(LLMConnectionError, match="broke"):
            await provider.complete(an_assignment())
        assert len(server.requests) == 1
        await provider.aclose()

    async def test_a_request_is_sent_again_only_once(self, server: ModelServer) -> None:
        provider = a_provider(server.base_url)
        await provider.complete(an_assignment())
        server.script = lambda body: Behaviour(hangs_up="politely")
        with pytest.raises(LLMConnectionError, match="broke"):
            await provider.complete(an_assignment())
        assert len(server.requests) == 3
        await provider.aclose()

    async def test_a_server_that_has_begun_to_work_is_not_asked_again(
        self, server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "CLOSED_WHILE_IDLE_SECONDS", 0.05)
        provider = a_provider(server.base_url)
        await provider.complete(an_assignment())
        server.enqueue(Behaviour(hangs_up="politely", delay=0.2))
        with pytest.raises(LLMConnectionError, match="broke"):
            await provider.complete(an_assignment())
        assert len(server.requests) == 2
        await provider.aclose()


async def test_connections_that_are_idle_for_long_are_closed(
    model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEP_IDLE_SECONDS", 0.5)
    provider = a_provider(model.base_url)
    await calls_at_once(provider, model, 5)
    assert model.connected == 5
    await asyncio.to_thread(eventually, lambda: model.connected == 0, "idle connections are closed")
    await provider.aclose()


async def test_idle_connections_cost_a_call_nothing(server: ModelServer) -> None:
    """httpx's own pool compares each idle connection with each other one."""
    provider = a_provider(server.base_url)
    await provider.complete(an_assignment())
    with_one = await steps_of(provider)
    await calls_at_once(provider, server, 64)
    assert await steps_of(provider) < 1.5 * with_one
    await provider.aclose()


async def test_a_call_on_an_open_connection_takes_few_steps(server: ModelServer) -> None:
    """A worker makes its calls on one thread: what a call takes there is what bounds calls at the same time."""
    provider = a_provider(server.base_url)
    await provider.complete(an_assignment())
    assert await steps_of(provider) < MOST_STEPS
    await provider.aclose()


async def test_a_piece_of_text_takes_few_steps(server: ModelServer) -> None:
    """A model sends up to a hundred pieces a second, and each slot of a worker may have one."""
    provider, steps = a_provider(server.base_url), dict[int, int]()
    for pieces in (1, 1, 201):  # the first time connects
        server.enqueue(completion("word " * (PIECE_CHARACTERS // 5) * pieces))
        steps[pieces] = await steps_of(provider)
    assert steps[201] - steps[1] < 200 * MOST_STEPS_OF_A_PIECE
    await provider.aclose()


async def test_a_call_looks_for_no_module(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that tries to import a package that is not installed makes Python search the disk each time."""
    sought: list[str] = []

    class Finder:
        @staticmethod
        def find_spec(name: str, *arguments: object) -> None:
            sought.append(name)

    provider = a_provider(server.base_url)
    await provider.complete(an_assignment())
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    await provider.complete(an_assignment())
    assert sought == []
    await provider.aclose()


async def calls_at_once(provider: KimiProvider, server: ModelServer, count: int) -> None:
    """Make calls, all of which are in flight at the same time."""
    server.script = lambda body: Behaviour(delay=0.3)
    await asyncio.gather(*(provider.complete(an_assignment()) for _ in range(count)))
    server.script = lambda body: Behaviour()


async def steps_of(provider: KimiProvider) -> int:
    """Return how many functions a call calls, on this thread."""
    count = 0

    def step(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(step)
    try:
        await provider.complete(an_assignment())
    finally:
        sys.setprofile(None)
    return count
