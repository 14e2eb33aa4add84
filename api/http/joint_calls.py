"""What several requests ask for at the same time, done by one call on a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Generic, TypeVar

from api.http.threads import Overloaded, Threads
from vm_webapp.errors import Unavailable

Asked = TypeVar("Asked")
Done = TypeVar("Done")
Do = Callable[[Sequence[Asked]], Sequence[Done | Exception]]

MOST_TOGETHER = 32
# A call that takes longer has met a lock, or a database that hangs: those who come later need not wait for its end.
PATIENCE_SECONDS = 1.0


class JointCalls:
    """Does what is asked for, together with all of its kind that was asked for during the call before.

    Who asks while there is no such call waits for nobody.

    Args:
        threads: makes the calls.
        waiting: how many of a kind may wait for a call; one more is refused at once.
    """

    def __init__(self, threads: Threads, *, waiting: int) -> None:
        self._threads = threads
        self._most_waiting = waiting
        self._kinds: dict[Callable[..., Any], _Kind[Any, Any]] = {}

    async def ask(self, do: Do[Asked, Done], asked: Asked) -> Done:
        """Return what came of a thing, or raise its error.

        A caller that disconnects stops only what has not begun.

        Args:
            do: does everything or nothing of a few things, and returns what came of each, in their order: a value, or
                an error. It is the same function for all that may be done together. Where it raises for several, it is
                called for each alone, except where the database is unavailable: the outcome may be unknown then.
            asked: the thing.

        Raises:
            Overloaded: too many wait.
            CallTimedOut: the call did not return within the threads' time limit.
        """
        kind: _Kind[Asked, Done] = self._kinds.setdefault(do, _Kind(self._threads, do))
        if len(kind.waiting) >= self._most_waiting:
            raise Overloaded("too many requests at once")
        return await kind.add(asked)


class _Kind(Generic[Asked, Done]):
    """The things that one function does."""

    def __init__(self, threads: Threads, do: Do[Asked, Done]) -> None:
        self._threads = threads
        self._do = do
        self.waiting: deque[tuple[Asked, asyncio.Future[Done]]] = deque()
        self._leader: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def add(self, asked: Asked) -> asyncio.Future[Done]:
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self.waiting.append((asked, answer))
        if self._leader is None or self._leader.done():
            # In a context of its own: it goes on for other requests than the one that starts it.
            self._leader = asyncio.create_task(self._lead(), context=Context())
        return answer

    async def _lead(self) -> None:
        while self.waiting:
            group = [self.waiting.popleft() for _ in range(min(len(self.waiting), MOST_TOGETHER))]
            if left := [(asked, answer) for asked, answer in group if not answer.done()]:
                call = asyncio.create_task(self._call(left))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
                await asyncio.wait({call}, timeout=PATIENCE_SECONDS)

    async def _call(self, group: Sequence[tuple[Asked, asyncio.Future[Done]]]) -> None:
        try:
            outcomes = await self._threads.run(lambda: self._outcomes([asked for asked, _ in group]))
        except Unavailable as error:  # the threads are overloaded, or the call has timed out
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

    def _outcomes(self, asked: Sequence[Asked]) -> Sequence[Done | Exception]:
        try:
            return self._do(asked)
        except Unavailable as error:
            return [error] * len(asked)
        except Exception as error:
            return [error] if len(asked) == 1 else [self._outcomes([each])[0] for each in asked]
