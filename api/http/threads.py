"""A thread pool with a bounded waiting line, on which handlers call the synchronous core."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from vm_webapp.errors import Unavailable

Result = TypeVar("Result")


class Overloaded(Unavailable):
    """The waiting line of this process is full."""

    code = "overloaded"


class CallTimedOut(Unavailable):
    """A call exceeded its time limit. Whether it took effect is unknown."""

    code = "no_answer_in_time"


class Threads:
    """A bounded thread pool.

    Args:
        threads: how many calls run at the same time.
        waiting: how many calls may wait; one more is refused at once.
        name: the prefix of the threads' names.
        limit_seconds: how long a caller waits for its call, including the time in the line. Without a limit a request
            would wait for ever for a database that never responds to a statement.
    """

    def __init__(self, threads: int, waiting: int, name: str, *, limit_seconds: float) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._most = threads + waiting
        self._limit_seconds = limit_seconds
        self._pending = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        """Run a function on a thread and return its result.

        A caller that disconnects does not stop the function.

        Raises:
            Overloaded: the waiting line is full.
            CallTimedOut: the function did not return within the time limit.
        """
        if self._pending >= self._most:
            raise Overloaded("too many requests at once")
        self._pending += 1
        loop = asyncio.get_running_loop()
        # With the caller's context: what the log says of the request, and the span that the request is traced by.
        future: Future[Result] = self._executor.submit(copy_context().run, function)
        ended: asyncio.Future[None] = loop.create_future()
        # The count falls when the function ends, not when its caller gives up: otherwise hung statements would occupy
        # every thread while new calls kept piling up behind them. The callback runs on the pool's thread, and only the
        # event loop's thread changes the count. It wakes the loop once, where ``asyncio.wrap_future`` would once more.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release, ended))
        try:
            await self.limited(ended)
        finally:
            future.cancel()  # so that it is not begun for a caller that has gone
        if future.cancelled():  # by ``close``
            raise asyncio.CancelledError
        return future.result()

    async def limited(self, ended: Awaitable[Result]) -> Result:
        """Wait for something as long as for a call.

        Raises:
            CallTimedOut: it has not come within the time limit.
        """
        try:
            async with asyncio.timeout(self._limit_seconds):
                return await ended
        except TimeoutError:
            raise CallTimedOut(f"no result within {self._limit_seconds:g} s") from None

    def close(self) -> None:
        """Refuse further calls and wait for the running ones."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _release(self, ended: asyncio.Future[None]) -> None:
        self._pending -= 1
        if not ended.done():  # the caller may have gone
            ended.set_result(None)
