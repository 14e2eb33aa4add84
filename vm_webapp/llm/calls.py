"""Runs model calls as tasks on one event loop per process, so that a call can be canceled while its thread waits."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import NamedTuple

from vm_webapp.llm.base import Assignment, Completion, PartialCompletion, Provider
from vm_webapp.llm.errors import LLMSilent, LLMTimeout
from vm_webapp.loop_errors import LoopErrors
from vm_webapp.loop_lag import LOOP_LAG
from vm_webapp.text import storable

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
MAX_MISSED_CHECKS = 20


class CallLoop:
    """An event loop on a thread of its own. Starts with the first call, ends with ``close``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._missed_checks = 0
        self._submitted: deque[_Submitted] = deque()

    def submit(
        self,
        provider: Provider,
        assignment: Assignment,
        *,
        timeout_seconds: float,
        max_seconds: float | None = None,
        on_text: Callable[[str], None] | None = None,
        on_deadline: Callable[[float], object] | None = None,
    ) -> Future[Completion]:
        """Start a call.

        Args:
            provider: the provider to call.
            assignment: what to write.
            timeout_seconds: how long the call may go on without a piece of text or reasoning; then it fails with
                ``LLMTimeout``, which holds the text until then, or with ``LLMSilent`` if the model had sent nothing.
            max_seconds: how long the call may take in all, although its model goes on sending; None for
                ``timeout_seconds``. A shorter one shortens ``timeout_seconds``.
            on_text: called with each piece of text, and with an empty one for a piece of reasoning.
            on_deadline: called at each piece, be it text or reasoning, with the monotonic time until which the call may
                now go on.

        Returns:
            A future of the completion. Canceling it closes the call's connection at once.
        """
        in_all = timeout_seconds if max_seconds is None else max_seconds
        limits = _Limits(min(timeout_seconds, in_all), in_all)
        call = _call(provider, assignment, limits, on_text, on_deadline)
        future: Future[Completion] = Future()
        # Under the lock: the call then either is among those that ``close`` winds up, and is canceled there, or starts
        # a new loop. Without it, ``close`` could stop the loop in between and the future would never finish.
        with self._lock:
            loop, submitted = self._running_loop(), self._submitted
            submitted.append(_Submitted(call, future, copy_context()))
            first = len(submitted) == 1
        # The loop is woken once for all calls that it has yet to take, and without the lock, because it runs at once.
        if first:
            with suppress(RuntimeError):  # closed meanwhile, and the call with it
                loop.call_soon_threadsafe(_start, submitted)
        return future

    def alive(self) -> bool:
        """Return whether calls can make progress: the thread lives, and the loop still runs callbacks.

        The caller checks once a second. Each check schedules a callback on the loop; the loop counts as hung once 20
        checks in a row have found that no callback ran.
        """
        # Checks are counted, not seconds: a process that was stopped (SIGSTOP) and goes on has not checked meanwhile,
        # and the clock would say that its loop hung all the time.
        with self._lock:
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return True
        if not thread.is_alive():
            return False
        self._missed_checks += 1
        loop.call_soon_threadsafe(self._note_progress)
        return self._missed_checks <= MAX_MISSED_CHECKS

    def _note_progress(self) -> None:
        self._missed_checks = 0

    def close(self, *providers: Provider) -> None:
        """Cancel the remaining calls, close the providers and stop the loop."""
        with self._lock:
            loop, thread, submitted = self._loop, self._thread, self._submitted
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        cancel = _cancel_calls(providers, submitted)
        try:
            if thread.is_alive():
                asyncio.run_coroutine_threadsafe(cancel, loop).result(timeout=CLOSE_SECONDS)
            else:  # the thread died and its loop is stopped, so this thread may run it
                loop.run_until_complete(cancel)
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
            self._loop.set_exception_handler(LoopErrors())
            self._loop.call_soon(LOOP_LAG.watch, self._loop)
            self._missed_checks = 0
            self._submitted = deque()  # one that hung may have left some
            self._thread = threading.Thread(target=self._loop.run_forever, name="model-calls", daemon=True)
            self._thread.start()
        return self._loop


class _Submitted(NamedTuple):
    call: Coroutine[None, None, Completion]
    future: Future[Completion]
    context: Context  # of the thread that waits: its trace, and what its records say


@dataclass(frozen=True, slots=True)
class _Limits:
    without_a_piece: float
    in_all: float


async def _call(
    provider: Provider,
    assignment: Assignment,
    limits: _Limits,
    on_text: Callable[[str], None] | None,
    on_deadline: Callable[[float], object] | None,
) -> Completion:
    loop = asyncio.get_running_loop()
    began = loop.time()  # asyncio's clock is time.monotonic()
    latest = began + limits.in_all
    deadline = began + limits.without_a_piece
    model_has_sent = False
    pieces: list[str] = []
    timer: asyncio.TimerHandle | None = None

    def note_text(text: str) -> None:
        nonlocal model_has_sent, deadline
        model_has_sent = True
        pieces.append(text)
        if not until.expired():
            deadline = min(loop.time() + limits.without_a_piece, latest)
            if on_deadline is not None:
                on_deadline(deadline)
        if on_text is not None:
            on_text(text)

    def end_if_late() -> None:
        # Pieces only move the deadline: to set the timer anew for each would take a fifth of the CPU of a piece.
        nonlocal timer
        if loop.time() < deadline:
            timer = loop.call_at(deadline, end_if_late)
        else:
            until.reschedule(deadline)

    try:
        async with asyncio.timeout(None) as until:
            end_if_late()
            return await provider.complete(assignment, on_text=note_text)
    except TimeoutError:
        # Silence counts toward the provider's pause; a completion that stalls may be this request's fault.
        if not model_has_sent:
            raise LLMSilent(f"no response within {_seconds(limits.without_a_piece)}") from None
        late = LLMTimeout(
            f"no complete response within {_seconds(limits.in_all)}: a slow model needs a higher VM_LLM_MAX_SECONDS"
            if loop.time() >= latest
            else f"nothing further came for {_seconds(limits.without_a_piece)}"
        )
        late.partial = PartialCompletion(storable("".join(pieces)))
        raise late from None
    finally:
        if timer is not None:
            timer.cancel()


def _start(submitted: deque[_Submitted]) -> None:
    loop = asyncio.get_running_loop()
    while submitted:
        each = submitted.popleft()
        _end_together(loop.create_task(each.call, context=each.context), each.future)


def _end_together(task: asyncio.Task[Completion], future: Future[Completion]) -> None:
    """Have the future end as the task does, and the task be canceled with the future."""
    loop = task.get_loop()

    def cancel_task(future: Future[Completion]) -> None:
        if future.cancelled():
            loop.call_soon_threadsafe(task.cancel)

    def end_future(task: asyncio.Task[Completion]) -> None:
        if task.cancelled():
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        error = task.exception()
        if error is None:
            future.set_result(task.result())
        else:
            future.set_exception(error)

    future.add_done_callback(cancel_task)
    task.add_done_callback(end_future)


def _seconds(number: float) -> str:
    return f"{round(number, 1):g} s"


async def _cancel_calls(providers: tuple[Provider, ...], submitted: deque[_Submitted]) -> None:
    _start(submitted)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    async with asyncio.timeout(CLOSE_SECONDS):
        await asyncio.gather(*others, return_exceptions=True)
        for provider in providers:
            await provider.aclose()
