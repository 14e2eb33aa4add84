"""Providers whose calls do something to the loop that they run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.llm.assignments import an_assignment
from tests.support.waiting import eventually
from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.llm.calls import CallLoop


class TamperingProvider:
    """Does it, and never answers.

    Args:
        act: called on the loop's thread with the loop.
    """

    name = "meddler"
    model: str | None = None

    def __init__(self, act: Callable[[asyncio.AbstractEventLoop], object]) -> None:
        self._act = act

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Do it."""
        self._act(asyncio.get_running_loop())
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def aclose(self) -> None:
        """Nothing is open."""


def stop_loop(calls: CallLoop) -> None:
    """Let the loop of the calls die, as if its thread had crashed."""
    calls.submit(TamperingProvider(lambda loop: loop.stop()), an_assignment(), timeout_seconds=60)
    eventually(lambda: not calls.alive(), "the loop has died", every=0.1)
