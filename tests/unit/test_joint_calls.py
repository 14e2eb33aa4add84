"""Calls that are made for several requests at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from api.http.joint_calls import CALLS_AT_ONCE, MOST_TOGETHER, Do, JointCalls
from api.http.threads import CallTimedOut, Overloaded, Threads
from vm_webapp.errors import Conflict, DatabaseUnavailable


class Doubling:
    """A function that doubles numbers, and may be held up."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.fails_for: dict[int, Exception] = {}

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        assert self.may_go_on.wait(10)
        for number in numbers:
            if number in self.fails_for:
                raise self.fails_for[number]
        return [2 * number for number in numbers]


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


@pytest.fixture
async def joint() -> AsyncIterator[JointCalls]:
    threads = Threads(CALLS_AT_ONCE + 1, 8, "joint", limit_seconds=5)
    yield JointCalls(threads, waiting=40)
    threads.close()


async def ask(joint: JointCalls, do: Do[int, int], number: int, **options: Any) -> int:
    """Ask with patience."""
    return await joint.ask(do, number, **{"patience_seconds": 5.0} | options)


async def begun(doubling: Doubling) -> None:
    """Return when a call is held up."""
    async with asyncio.timeout(5):
        while not doubling.calls:
            await asyncio.sleep(0.001)


async def occupied(joint: JointCalls, doubling: Doubling) -> list[asyncio.Task[int]]:
    """Return those who are held up by as many calls as are made at once."""
    asking = []
    for number in range(CALLS_AT_ONCE):
        asking.append(asyncio.create_task(ask(joint, doubling, -number)))
        async with asyncio.timeout(5):
            while len(doubling.calls) <= number:
                await asyncio.sleep(0.001)
    return asking


async def test_what_comes_during_the_calls_is_done_by_the_next_ones(joint: JointCalls, doubling: Doubling) -> None:
    doubling.may_go_on.clear()
    first = await occupied(joint, doubling)
    others = [asyncio.create_task(ask(joint, doubling, number)) for number in range(MOST_TOGETHER + 3)]
    await asyncio.sleep(0.01)
    assert len(doubling.calls) == CALLS_AT_ONCE
    doubling.may_go_on.set()
    assert await asyncio.gather(*others) == [2 * number for number in range(MOST_TOGETHER + 3)]
    await asyncio.gather(*first)
    assert [len(call) for call in doubling.calls[CALLS_AT_ONCE:]] == [MOST_TOGETHER, 3]


async def test_who_asks_in_the_same_moment_is_answered_together(joint: JointCalls, doubling: Doubling) -> None:
    assert await asyncio.gather(*(ask(joint, doubling, number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert doubling.calls == [[0, 1, 2, 3, 4]]


async def test_another_function_or_kind_has_a_line_of_its_own(joint: JointCalls, doubling: Doubling) -> None:
    another = Doubling()
    doubling.may_go_on.clear()
    held = asyncio.create_task(ask(joint, doubling, 1))
    await begun(doubling)
    assert await ask(joint, another, 2) == 4
    doubling_more = asyncio.create_task(ask(joint, doubling, 3, kind="more"))
    async with asyncio.timeout(5):
        while len(doubling.calls) < 2:
            await asyncio.sleep(0.001)
    doubling.may_go_on.set()
    assert (await held, await doubling_more) == (2, 6)


async def test_what_fails_fails_alone(joint: JointCalls, doubling: Doubling) -> None:
    doubling.fails_for[2] = Conflict("two")
    found = await asyncio.gather(*(ask(joint, doubling, number) for number in (1, 2, 3)), return_exceptions=True)
    assert found == [2, doubling.fails_for[2], 6]
    assert doubling.calls == [[1, 2, 3], [1], [2], [3]]


async def test_where_the_outcome_may_be_unknown_nothing_is_done_again(joint: JointCalls, doubling: Doubling) -> None:
    doubling.fails_for[2] = DatabaseUnavailable("it broke")
    found = await asyncio.gather(*(ask(joint, doubling, number) for number in (1, 2, 3)), return_exceptions=True)
    assert found == [doubling.fails_for[2]] * 3
    assert doubling.calls == [[1, 2, 3]]


async def test_an_error_may_be_what_came_of_one(joint: JointCalls) -> None:
    refused, calls = Conflict("one"), []

    def refuse_one(numbers: Sequence[int]) -> list[int | Exception]:
        calls.append(numbers)
        return [refused if number == 1 else number for number in numbers]

    found = await asyncio.gather(*(ask(joint, refuse_one, number) for number in (1, 2)), return_exceptions=True)
    assert (found, calls) == ([refused, 2], [[1, 2]])


async def test_what_nobody_waits_for_any_more_is_not_begun(joint: JointCalls, doubling: Doubling) -> None:
    doubling.may_go_on.clear()
    held = await occupied(joint, doubling)
    gone, stays = (asyncio.create_task(ask(joint, doubling, number)) for number in (2, 3))
    await asyncio.sleep(0.01)
    gone.cancel()
    held[0].cancel()
    await asyncio.wait({gone, held[0]})
    doubling.may_go_on.set()
    assert await stays == 6
    assert doubling.calls[CALLS_AT_ONCE:] == [[3]]


async def test_calls_that_hang_hold_up_none_that_comes_later(joint: JointCalls, doubling: Doubling) -> None:
    doubling.may_go_on.clear()
    hang = [asyncio.create_task(ask(joint, doubling, number, patience_seconds=0.05)) for number in range(40)]
    async with asyncio.timeout(5):
        while len(doubling.calls) < CALLS_AT_ONCE + 1:
            await asyncio.sleep(0.001)
    doubling.may_go_on.set()
    assert await asyncio.gather(*hang) == [2 * number for number in range(40)]


async def test_too_many_are_refused_at_once(joint: JointCalls, doubling: Doubling) -> None:
    doubling.may_go_on.clear()
    held = await occupied(joint, doubling)
    waiting = [asyncio.create_task(ask(joint, doubling, number)) for number in range(40)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded):
        await ask(joint, doubling, 40)
    doubling.may_go_on.set()
    assert len(await asyncio.gather(*held, *waiting)) == 40 + CALLS_AT_ONCE


async def test_a_call_has_the_time_limit_of_the_threads(doubling: Doubling) -> None:
    threads = Threads(1, 8, "joint", limit_seconds=0.05)
    doubling.may_go_on.clear()
    with pytest.raises(CallTimedOut):
        await ask(JointCalls(threads, waiting=40), doubling, 1)
    doubling.may_go_on.set()
    threads.close()


async def test_where_the_threads_are_closed_nobody_waits_for_ever(doubling: Doubling) -> None:
    threads = Threads(1, 8, "joint", limit_seconds=5)
    joint = JointCalls(threads, waiting=40)
    doubling.may_go_on.clear()
    blocking = asyncio.create_task(threads.run(lambda: doubling([0])))
    await begun(doubling)
    asked = asyncio.create_task(ask(joint, doubling, 1))
    await asyncio.sleep(0.01)
    closing = threading.Thread(target=threads.close)
    closing.start()
    doubling.may_go_on.set()
    await blocking
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asked, 5)
    closing.join()


async def test_who_asks_after_the_threads_are_closed_gets_an_error_at_once(doubling: Doubling) -> None:
    threads = Threads(1, 8, "joint", limit_seconds=60)
    threads.close()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(ask(JointCalls(threads, waiting=40), doubling, 1), 5)
