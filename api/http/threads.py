"""The core is synchronous: handlers call it on a few threads, behind a waiting line of bounded length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vm_webapp.errors import Unavailable

Result = TypeVar("Result")


class Overloaded(Unavailable):
    """More is asked of this process than it can take in."""

    code = "overloaded"


class NoAnswerInTime(Unavailable):
    """A call took longer than anybody should wait. Whether it took effect is unknown."""

    code = "no_answer_in_time"


class Threads:
    """A bounded pool.

    Args:
        threads: calls that run at a time.
        waiting: calls that may wait; one more is refused at once.
        limit_seconds: how long a caller waits for a call, its time in the line included. The database may swallow a
            statement without a word, and nobody should have to wait for it.
    """

    def __init__(self, threads: int, waiting: int, name: str, *, limit_seconds: float) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._most = threads + waiting
        self._limit_seconds = limit_seconds
        self._pending = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        """Run a function on a thread and return what it returns.

        A caller that goes away does not stop it: its place is free again when the function has ended.

        Raises:
            Overloaded: the waiting line is full.
            NoAnswerInTime: the time limit is over.
        """
        if self._pending >= self._most:
            raise Overloaded("too many requests at once")
        self._pending += 1
        loop = asyncio.get_running_loop()
        future: Future[Result] = self._executor.submit(function)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            async with asyncio.timeout(self._limit_seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise NoAnswerInTime(f"no answer within {self._limit_seconds:g} s") from None

    def close(self) -> None:
        """Refuse further calls and wait for those that run."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _done(self) -> None:
        self._pending -= 1
