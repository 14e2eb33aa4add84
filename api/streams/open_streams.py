"""The streams and waiting requests that keys hold open: a number at most, and none after the key was revoked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Protocol
from uuid import UUID

from api.http.problems import RequestError
from api.http.threads import Threads
from vm_webapp.access.actor import Actor
from vm_webapp.errors import Unavailable

log = logging.getLogger(__name__)

MOST_OPEN = 64
# A key is remembered for four seconds: whoever opens a stream with it at the end of them is found at once. Together
# less than the five seconds within which a revoked key must have lost everything.
FIRST_CHECK_SECONDS = 0.25
CHECK_SECONDS = 2.0
ABORT_SECONDS = 0.5  # after it was asked to end: a client that does not read would keep it for longer

Caller = tuple[UUID | None, UUID | None]  # a key, and a session
InForce = Callable[[Collection[Caller]], Collection[Caller]]


class Follower(Protocol):
    """What a held request waits for."""

    def close(self) -> None:
        """Ask it to return."""


class Held:
    """A request that a caller holds open.

    Args:
        caller: its key and its session; None for whoever has neither.
    """

    def __init__(self, caller: Caller | None) -> None:
        self.caller = caller
        self._ended = False
        self._follower: Follower | None = None
        self._abort: Callable[[], None] | None = None

    def on_end(self, follower: Follower, abort: Callable[[], None] | None = None) -> None:
        """Name what is to be closed, and then aborted, when the key is no longer in force."""
        self._follower, self._abort = follower, abort
        if self._ended:
            follower.close()

    def refuse_if_ended(self) -> None:
        """Refuse the request if the key is no longer in force.

        Raises:
            RequestError: 401.
        """
        if self._ended:
            detail = "the key, or the session, is no longer valid"
            raise RequestError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})

    def end(self) -> None:
        """Note that the key is no longer in force, and ask the follower to return."""
        self._ended = True
        if self._follower is not None:
            self._follower.close()

    def abort(self) -> None:
        """End the request, whatever it waits for."""
        if self._abort is not None:
            self._abort()


class OpenStreams:
    """The requests that are held open in this process.

    Args:
        threads: the pool on which keys are checked.
        in_force: returns those of some callers whose key and session are in force.
    """

    def __init__(self, threads: Threads, in_force: InForce) -> None:
        self._threads = threads
        self._in_force = in_force
        self._held: set[Held] = set()
        self._open: Counter[str] = Counter()
        self._opened = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(self._open.values())

    @contextmanager
    def hold(self, actor: Actor) -> Iterator[Held]:
        """Hold a request open for the block.

        Raises:
            RequestError: 429; the caller holds as many open as it may.
        """
        caller = (actor.key_id, actor.session_id)
        if actor.id is None or caller == (None, None):
            yield Held(None)  # the token is in force for as long as this process lives, and so is an open local API
            return
        if self._open[actor.id] >= MOST_OPEN:
            detail = f"{MOST_OPEN} streams and waiting requests of this key are open; end some of them"
            raise RequestError(429, "too_many_streams", detail, headers={"Retry-After": "1"})
        held = Held(caller)
        self._held.add(held)
        self._open[actor.id] += 1
        self._opened.set()
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="open streams", context=Context())
        try:
            yield held
        finally:
            self._held.discard(held)
            self._open[actor.id] -= 1
            if not self._open[actor.id]:
                del self._open[actor.id]

    async def close(self) -> None:
        """Check no more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        """Check the callers at intervals, until nobody holds anything open."""
        while self._held:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._opened.wait()
                    await asyncio.sleep(FIRST_CHECK_SECONDS)
            self._opened.clear()
            await self._check()

    async def _check(self) -> None:
        checked = list(self._held)
        callers = {held.caller for held in checked if held.caller is not None}
        try:
            in_force = await self._threads.run(lambda: self._in_force(callers))
        except Unavailable:
            return  # the next check tells; nothing can be revoked without the database
        except Exception:
            log.exception("open_streams.check_failed")
            return
        ended = [held for held in checked if held.caller not in in_force]
        for held in ended:
            held.end()
        if ended:
            asyncio.get_running_loop().call_later(ABORT_SECONDS, self._abort, ended)

    def _abort(self, ended: Collection[Held]) -> None:
        for held in ended:
            if held in self._held:
                held.abort()
