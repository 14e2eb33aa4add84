"""Tells the pages of many runs that something has changed: all of them by one task, which knows no positions.

The core's signals tell of this process's own changes at once. Those of workers and of other processes are found by one
query a second, whose result only has to differ from the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from uuid import UUID

from api.http.threads import Threads
from api.streams.readers import Reader
from vm_webapp.errors import Unavailable
from vm_webapp.runs.signals import run_changed, run_created

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
REST_SECONDS = 0.5  # between two hints: a page reads itself again at each

Look = Callable[[], Hashable]


class Changes:
    """The registry of the pages that are open in this process.

    Args:
        threads: the pool on which the query runs.
        look: returns a value that differs from an earlier one if something has changed.
    """

    def __init__(self, threads: Threads, look: Look) -> None:
        self._threads = threads
        self._look = look
        self._seen: Hashable = None
        self._readers: set[Reader] = set()
        self._signalled = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._readers)

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[Reader]:
        """Return a reader that is woken after each change for the block, at most twice a second."""
        reader = Reader()
        if self._closed:
            reader.close()
        self._readers.add(reader)
        if not self._closed and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._watch(), name="changes.watch")
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    async def close(self) -> None:
        """Make every reader return."""
        self._closed = True
        for reader in self._readers:
            reader.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        """Wake the readers after each change, until there are none."""
        loop = asyncio.get_running_loop()

        def note(_run_id: UUID) -> None:  # on the thread that committed
            loop.call_soon_threadsafe(self._signalled.set)

        with run_created.connected(note), run_changed.connected(note):
            while self._readers:
                signalled = await self._wait_for_signal()
                # After a signal as well: the next look must not find the same change again.
                if await self._has_changed() or signalled:
                    for reader in self._readers:
                        reader.wake("")
                    await asyncio.sleep(REST_SECONDS)

    async def _wait_for_signal(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._signalled.wait()
        came = self._signalled.is_set()
        self._signalled.clear()
        return came

    async def _has_changed(self) -> bool:
        try:
            found = await self._threads.run(self._look)
        except Unavailable:
            return False  # the next look tells
        except Exception:
            log.exception("changes.look_failed")
            return False
        before, self._seen = self._seen, found
        return found != before
