"""Model calls as tasks on one event loop a process, so that each can be ended at once while its thread waits."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from vm_webapp.llm.base import Assignment, Completion, Provider
from vm_webapp.llm.errors import LLMError, LLMSilent, LLMTimeout

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
MOST_UNANSWERED = 20


class CallLoop:
    """An event loop on a thread of its own. Starts with the first call, ends with ``close``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._unanswered = 0

    def submit(
        self,
        provider: Provider,
        assignment: Assignment,
        *,
        timeout_seconds: float,
        on_text: Callable[[str], None] | None = None,
    ) -> Future[Completion]:
        """Start a call.

        Args:
            provider: who writes.
            assignment: what to write.
            timeout_seconds: the call's whole time; then it fails with ``LLMTimeout``, or ``LLMSilent`` where not even
                a first piece has come.
            on_text: passed on to the provider.

        Returns:
            A future of the document. Cancelling it closes the call's connection at once.
        """
        call = _call(provider, assignment, timeout_seconds, on_text)
        # Under the lock, so that a call is either ahead of ``close`` on its loop, and canceled there, or on a new loop.
        with self._lock:
            return asyncio.run_coroutine_threadsafe(call, self._running_loop())

    def alive(self) -> bool:
        """Return whether calls can go on: the thread lives, and the loop has answered what it was asked here before.

        To be asked about once a second: a loop that hangs is found out when twenty questions have had no answer.
        """
        # In questions, not by the clock: a process that was stopped itself, and goes on, has not been asking meanwhile.
        with self._lock:
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return True
        if not thread.is_alive():
            return False
        self._unanswered += 1
        loop.call_soon_threadsafe(self._answer)
        return self._unanswered <= MOST_UNANSWERED

    def _answer(self) -> None:
        self._unanswered = 0

    def close(self, *providers: Provider) -> None:
        """Close the providers, cancel what is left and stop the loop."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        try:
            if thread.is_alive():
                asyncio.run_coroutine_threadsafe(_wind_up(providers), loop).result(timeout=CLOSE_SECONDS)
            else:  # it died, and left its loop to us
                loop.run_until_complete(_wind_up(providers))
        except TimeoutError:
            log.warning("calls.unclosed")  # the thread is a daemon: it ends with the process
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=CLOSE_SECONDS)
        if not thread.is_alive():
            loop.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._unanswered = 0
            self._thread = threading.Thread(target=self._loop.run_forever, name="model-calls", daemon=True)
            self._thread.start()
        return self._loop


async def _call(
    provider: Provider, assignment: Assignment, timeout_seconds: float, on_text: Callable[[str], None] | None
) -> Completion:
    heard = False

    def hear(text: str) -> None:
        nonlocal heard
        heard = True
        if text and on_text is not None:
            on_text(text)

    try:
        async with asyncio.timeout(timeout_seconds):
            return await provider.complete(assignment, on_text=hear)
    except TimeoutError:
        late: type[LLMError] = LLMTimeout if heard else LLMSilent
        raise late(f"{'no whole' if heard else 'no'} answer within {round(timeout_seconds, 1):g} s") from None


async def _wind_up(providers: tuple[Provider, ...]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    async with asyncio.timeout(CLOSE_SECONDS):
        await asyncio.gather(*others, return_exceptions=True)
        for provider in providers:
            await provider.aclose()
