"""Calls on their own loop: a waiting thread can always be released."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar, copy_context

import pytest

from tests.fakes.behaviours import REFUSALS, Behaviour, completion, stalled
from tests.fakes.model_server import ModelServer
from tests.fakes.providers import TamperingProvider, stop_loop
from tests.llm.assignments import an_assignment
from tests.llm.providers import a_provider
from tests.support.waiting import eventually
from vm_webapp.llm import calls as calls_module
from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.errors import LLMSilent, LLMTimeout, LLMUnauthorized
from vm_webapp.llm.kimi import KimiProvider

AT_ONCE = 2.0
SILENT = [Behaviour(silent=True), stalled(after=0), stalled(after=1)]
SILENT_WHEN = ["before the response", "after the reasoning", "in the text"]


@pytest.fixture(scope="module")
def kimi(running_server: ModelServer) -> KimiProvider:
    """A client whose connections belong to the loop of ``calls``, which closes them."""
    return a_provider(running_server.base_url)


@pytest.fixture(scope="module")
def calls(kimi: KimiProvider) -> Iterator[CallLoop]:
    loop = CallLoop()
    yield loop
    loop.close(kimi)


class Stubborn:
    """A provider whose calls, or whose close, never end by themselves."""

    name = "stubborn"
    model: str | None = None

    def __init__(self, *, close_hangs: bool = False) -> None:
        self.started = threading.Event()
        self.canceled = threading.Event()
        self.closed = threading.Event()
        self._close_hangs = close_hangs

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.canceled.set()
            raise
        return Completion("never", provider=self.name)

    async def aclose(self) -> None:
        self.closed.set()
        if self._close_hangs:
            await asyncio.Event().wait()


def model_threads() -> int:
    return sum(thread.name == "model-calls" for thread in threading.enumerate())


def test_a_call_ends_with_the_completion(server: ModelServer, calls: CallLoop, kimi: KimiProvider) -> None:
    server.enqueue(completion("# Done"))
    pieces: list[str] = []
    future = calls.submit(kimi, an_assignment(), timeout_seconds=30, on_text=pieces.append)
    assert future.result(5).text == "# Done"
    assert "".join(pieces) == "# Done"


def test_a_failure_reaches_the_waiting_thread(server: ModelServer, calls: CallLoop, kimi: KimiProvider) -> None:
    server.enqueue(REFUSALS["unauthorized"])
    with pytest.raises(LLMUnauthorized):
        calls.submit(kimi, an_assignment(), timeout_seconds=30).result(5)


@pytest.mark.parametrize("behaviour", SILENT, ids=SILENT_WHEN)
def test_cancelling_closes_the_connection_at_once_even_when_the_server_is_silent(
    server: ModelServer, calls: CallLoop, kimi: KimiProvider, behaviour: Behaviour
) -> None:
    server.enqueue(behaviour)
    future = calls.submit(kimi, an_assignment(), timeout_seconds=60)
    server.wait_until(lambda s: s.in_flight == 1)
    canceled_at = time.monotonic()
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(0)
    server.wait_until(lambda s: s.disconnects == 1 and s.in_flight == 0)
    assert time.monotonic() - canceled_at < AT_ONCE


@pytest.mark.parametrize("behaviour", SILENT, ids=SILENT_WHEN)
def test_the_deadline_ends_a_silent_call_and_its_connection(
    server: ModelServer, calls: CallLoop, kimi: KimiProvider, behaviour: Behaviour
) -> None:
    server.enqueue(behaviour)
    with pytest.raises((LLMTimeout, LLMSilent), match=r"response within 0\.5 s") as ended:
        calls.submit(kimi, an_assignment(), timeout_seconds=0.5).result(5)
    # Silence counts toward a pause of the provider; a text that stalls may be the fault of this request.
    assert ended.value.overload is behaviour.silent
    server.wait_until(lambda s: s.in_flight == 0)


def test_a_loop_that_hangs_is_detected(calls: CallLoop, kimi: KimiProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "MAX_MISSED_CHECKS", 3)
    calls.submit(kimi, an_assignment(), timeout_seconds=5).result(5)
    assert calls.alive()
    hang, go_on = threading.Event(), threading.Event()

    def block(_: object) -> None:
        hang.set()
        go_on.wait(10)

    hanging = calls.submit(TamperingProvider(block), an_assignment(), timeout_seconds=60)
    assert hang.wait(5)
    try:
        assert [calls.alive() for _ in range(4)] == [True, True, True, False]
    finally:
        go_on.set()
        hanging.cancel()
    eventually(calls.alive, "the loop runs again")


def test_a_dead_loop_is_detected_at_once_and_closed_without_waiting() -> None:
    calls, provider = CallLoop(), Stubborn()
    call = calls.submit(provider, an_assignment(), timeout_seconds=60)
    assert provider.started.wait(5)
    stop_loop(calls)
    began = time.monotonic()
    calls.close(provider)
    assert time.monotonic() - began < AT_ONCE
    with pytest.raises(CancelledError):
        call.result(0)


def test_many_threads_call_side_by_side_and_one_canceled_call_leaves_the_others_alone(
    server: ModelServer, calls: CallLoop, kimi: KimiProvider
) -> None:
    release = threading.Event()
    server.script = lambda body: completion("Done") if release.is_set() else stalled()
    with ThreadPoolExecutor(8) as threads:
        waiting = list(
            threads.map(lambda _: calls.submit(kimi, an_assignment(), timeout_seconds=60), range(8), timeout=5)
        )
        server.wait_until(lambda s: s.in_flight == 8)
        release.set()
        assert calls.submit(kimi, an_assignment(), timeout_seconds=60).result(5).text == "Done"
        waiting[0].cancel()
        server.wait_until(lambda s: s.in_flight == 7)
        assert [future.done() for future in waiting] == [True] + [False] * 7
        assert model_threads() == 1
        for future in waiting:
            future.cancel()


def test_calls_that_are_submitted_together_each_run_in_the_context_of_their_thread() -> None:
    name = ContextVar[str]("name")

    class Named(Stubborn):
        async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
            return Completion(name.get(), provider=self.name)

    calls, blocked = CallLoop(), threading.Event()
    first = calls.submit(Stubborn(), an_assignment(), timeout_seconds=30)
    assert calls._loop is not None
    calls._loop.call_soon_threadsafe(blocked.wait)  # all wait for the loop
    futures = []
    for each in ("a", "b", "c"):
        context = copy_context()
        context.run(name.set, each)
        futures.append(context.run(calls.submit, Named(), an_assignment(), timeout_seconds=30))
    futures[1].cancel()
    blocked.set()
    assert [future.result(5).text for future in (futures[0], futures[2])] == ["a", "c"]
    assert futures[1].cancelled()
    calls.close()
    assert first.cancelled()


def test_close_cancels_what_is_left_and_closes_the_providers() -> None:
    before = model_threads()
    calls, provider = CallLoop(), Stubborn()
    future = calls.submit(provider, an_assignment(), timeout_seconds=60)
    assert provider.started.wait(5)
    calls.close(provider)
    with pytest.raises(CancelledError):
        future.result(5)
    assert provider.canceled.is_set()
    assert provider.closed.is_set()
    assert model_threads() == before


def test_close_without_a_call_and_a_second_close_do_nothing() -> None:
    before = model_threads()
    calls, provider = CallLoop(), Stubborn()
    calls.close(provider)
    calls.close(provider)
    assert not provider.closed.is_set()
    assert model_threads() == before


def test_a_provider_that_does_not_close_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "CLOSE_SECONDS", 0.1)
    before = model_threads()
    calls, provider = CallLoop(), Stubborn(close_hangs=True)
    calls.submit(provider, an_assignment(), timeout_seconds=60)
    assert provider.started.wait(5)
    calls.close(provider)
    assert provider.closed.is_set()
    assert model_threads() == before


def test_a_call_after_close_gets_a_loop_of_its_own() -> None:
    calls, provider = CallLoop(), Stubborn()
    calls.submit(provider, an_assignment(), timeout_seconds=60)
    calls.close()
    with pytest.raises(LLMSilent):
        calls.submit(Stubborn(), an_assignment(), timeout_seconds=0.01).result(5)
    calls.close()


class Slow:
    """A provider that sends a piece every tenth of a second."""

    name = "slow"
    model: str | None = None

    def __init__(self, pieces: int, piece: str) -> None:
        self._pieces = pieces
        self._piece = piece

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        for _ in range(self._pieces):
            await asyncio.sleep(0.1)
            assert on_text is not None
            on_text(self._piece)
        return Completion("# Done", "slow")

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("piece", ["word ", ""], ids=["text", "reasoning"])
def test_a_call_goes_on_for_as_long_as_pieces_come(calls: CallLoop, piece: str) -> None:
    moved: list[float] = []
    call = calls.submit(Slow(10, piece), an_assignment(), timeout_seconds=0.5, max_seconds=30, on_deadline=moved.append)
    assert call.result(10).text == "# Done"
    assert len(moved) == 10
    assert moved == sorted(moved)


def test_a_call_that_goes_on_sending_ends_at_the_longest_time(calls: CallLoop) -> None:
    call = calls.submit(Slow(1000, "word "), an_assignment(), timeout_seconds=0.5, max_seconds=1)
    with pytest.raises(LLMTimeout, match=r"no complete response within 1 s: .* higher VM_LLM_MAX_SECONDS") as late:
        call.result(10)
    assert late.value.partial is not None
    assert late.value.partial.text.startswith("word word ")


def test_the_longest_time_shortens_the_time_without_a_piece(calls: CallLoop) -> None:
    call = calls.submit(Slow(1000, "word "), an_assignment(), timeout_seconds=60, max_seconds=0.5)
    with pytest.raises(LLMTimeout, match=r"no complete response within 0\.5 s"):
        call.result(10)


def test_a_call_that_stalls_ends_after_the_time_without_a_piece(
    server: ModelServer, calls: CallLoop, kimi: KimiProvider
) -> None:
    server.enqueue(stalled(after=2))
    call = calls.submit(kimi, an_assignment(), timeout_seconds=0.5, max_seconds=60)
    with pytest.raises(LLMTimeout, match=r"nothing further came for 0\.5 s") as late:
        call.result(10)
    assert late.value.partial is not None
    assert late.value.partial.text
    server.wait_until(lambda s: s.in_flight == 0)


def test_an_exception_that_no_call_awaits_is_logged_without_its_text(
    calls: CallLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        asyncio.get_running_loop().call_soon(int, "sk-s3cret")

    class Careless(Stubborn):
        async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
            await fail()
            return Completion("done", provider=self.name)

    assert calls.submit(Careless(), an_assignment(), timeout_seconds=5).result(5).text == "done"
    eventually(lambda: "loop.error" in caplog.messages, "it is logged")
    (record,) = [record for record in caplog.records if record.msg == "loop.error"]
    assert record.__dict__["error"] == "ValueError"
    assert "s3cret" not in repr(vars(record))
    assert "s3cret" not in caplog.text
