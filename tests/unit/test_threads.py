"""The thread pool on which handlers call the core."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from api.http.threads import CallTimedOut, Overloaded, Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    """A pool of one thread, in whose line one more call may wait."""
    pool = Threads(1, 1, "test", limit_seconds=30)
    yield pool
    pool.close()


async def test_a_call_wakes_the_loop_once(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, woken = asyncio.get_running_loop(), []
    wake: Any = loop.call_soon_threadsafe

    def count(*arguments: Any, **options: Any) -> Any:
        woken.append(arguments)
        return wake(*arguments, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    assert await threads.run(lambda: 7) == 7
    assert len(woken) == 1


async def test_what_the_function_raises_reaches_its_caller(threads: Threads) -> None:
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)


async def test_a_caller_that_gives_up_frees_no_thread_that_still_works(threads: Threads) -> None:
    begun, go_on, ran = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        go_on.wait(30)

    working = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait, 30)
    waiting = asyncio.create_task(threads.run(lambda: ran.append("late")))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    with pytest.raises(Overloaded):
        await threads.run(lambda: None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    async with asyncio.timeout(30):
        while threads._pending:
            await asyncio.sleep(0.005)
    assert await threads.run(lambda: 7) == 7
    assert ran == []  # it was never begun, for nobody waited for it any more


async def test_a_call_that_takes_too_long() -> None:
    pool, go_on = Threads(1, 1, "test", limit_seconds=0.05), threading.Event()
    with pytest.raises(CallTimedOut):
        await pool.run(lambda: go_on.wait(30))
    go_on.set()
    pool.close()
