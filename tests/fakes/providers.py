"""A provider whose calls tamper with the loop that they run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.llm.assignments import an_assignment
from tests.support.waiting import eventually
from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.llm.calls import CallLoop


class TamperingProvider:
    """Calls a function on the loop, and never completes.

    Args:
        act: called with the loop, on the loop's thread.
    """

    name = "tampering"
    model: str | None = None

    def __init__(self, act: Callable[[asyncio.AbstractEventLoop], object]) -> None:
        self._act = act

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Call the function, then wait for ever."""
        self._act(asyncio.get_running_loop())
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


def stop_loop(calls: CallLoop) -> None:
    """Stop the loop of the model calls, as if its thread had crashed."""
    calls.submit(TamperingProvider(lambda loop: loop.stop()), an_assignment(), timeout_seconds=60)
    eventually(lambda: not calls.alive(), "the loop has died", every=0.1)
