"""What several requests ask for at the same time, done by one call on a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from api.http.threads import Overloaded, Threads
from vm_webapp.errors import Unavailable

Asked = TypeVar("Asked")
Done = TypeVar("Done")
Do = Callable[[Sequence[Asked]], Sequence[Done | Exception]]

MOST_TOGETHER = 16
CALLS_AT_ONCE = 2  # while PostgreSQL does what one asks for, the other is prepared, or answered
Line = deque[tuple[Any, "asyncio.Future[Any]"]]


@dataclass(slots=True)
class _Kind:
    """What is asked of one function.

    Attributes:
        waiting: what nobody has begun with.
        calls: how many calls are waited for.
    """

    do: Do[Any, Any]
    patience_seconds: float
    waiting: Line = field(default_factory=deque)
    calls: int = 0


class JointCalls:
    """Does what is asked for, together with all of its kind that was asked for during the calls before.

    Who asks while there are no such calls waits for nobody.

    Args:
        threads: makes the calls.
        waiting: how many of a kind may wait for a call; one more is refused at once.
    """

    def __init__(self, threads: Threads, *, waiting: int) -> None:
        self._threads = threads
        self._most_waiting = waiting
        self._kinds: dict[Hashable, _Kind] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps no task alive

    async def ask(self, do: Do[Asked, Done], asked: Asked, *, patience_seconds: float, kind: Hashable = None) -> Done:
        """Return what came of a thing, or raise its error.

        A caller that disconnects stops only what has not begun.

        Args:
            do: does everything or nothing of a few things, and returns what came of each, in their order: a value, or
                an error. It is the same function for all that may be done together. Where it raises for several, it is
                called for each alone, except where the database is unavailable: the outcome may be unknown then.
            asked: the thing.
            patience_seconds: how long a call is waited for until another one begins beside it: it may have met a lock,
                or a database that hangs.
            kind: what must be equal, too, of things that may be done together.

        Raises:
            Overloaded: too many wait.
            CallTimedOut: it was not done within the threads' time limit, which includes the time in the line.
        """
        key, loop = (do, kind), asyncio.get_running_loop()
        of_kind = self._kinds.setdefault(key, _Kind(do, patience_seconds))
        if len(of_kind.waiting) >= self._most_waiting:
            raise Overloaded("too many requests at once")
        answer: asyncio.Future[Done] = loop.create_future()
        of_kind.waiting.append((asked, answer))
        # After those who ask in the same moment; in a context of its own, for it is made for others, too.
        loop.call_soon(self._begin, key, context=Context())
        return await self._threads.limited(answer)

    def _begin(self, key: Hashable) -> None:
        kind = self._kinds.get(key)
        if kind is None:
            return
        while kind.waiting and kind.calls < CALLS_AT_ONCE:
            group = [kind.waiting.popleft() for _ in range(min(len(kind.waiting), MOST_TOGETHER))]
            if left := [(asked, answer) for asked, answer in group if not answer.done()]:
                kind.calls += 1
                self._start(self._wait_for(self._start(self._call(kind.do, left)), key, kind))
        if not kind.waiting and not kind.calls:
            del self._kinds[key]

    async def _wait_for(self, call: asyncio.Task[None], key: Hashable, kind: _Kind) -> None:
        await asyncio.wait({call}, timeout=kind.patience_seconds)
        kind.calls -= 1
        self._begin(key)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _call(self, do: Do[Any, Any], group: Sequence[tuple[Any, asyncio.Future[Any]]]) -> None:
        try:
            outcomes = await self._threads.run(partial(_outcomes, do, [asked for asked, _ in group]))
        except Exception as error:  # the threads are overloaded or closed, or the call has timed out
            outcomes = [error] * len(group)
        except asyncio.CancelledError:  # the threads are closed
            for _, answer in group:
                answer.cancel()
            raise
        for (_, answer), outcome in zip(group, outcomes, strict=True):
            if answer.done():  # the caller has gone
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)


def _outcomes(do: Do[Asked, Done], asked: Sequence[Asked]) -> Sequence[Done | Exception]:
    try:
        return do(asked)
    except Unavailable as error:
        return [error] * len(asked)
    except Exception as error:
        return [error] if len(asked) == 1 else [_outcomes(do, [each])[0] for each in asked]
