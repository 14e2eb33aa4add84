"""A model that responds at once, in the process of the worker: what remains is the cost of the queue."""

from __future__ import annotations

import time
from collections.abc import Callable

from vm_webapp.llm.base import Assignment, Completion

Call = tuple[float, float]  # when it began and ended, in seconds of this process's clock
TEXT = "# A document\n\n" + "Some words of it.\n" * 114  # 2 KB


def write() -> str:
    """Return a text of 2 KB."""
    return TEXT


class InstantProvider:
    """Returns a text of 2 KB for every assignment.

    Attributes:
        calls: when each call began and ended, in their order.
    """

    name = "kimi"
    model: str | None = "instant"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the text."""
        began = time.perf_counter()
        completion = Completion(TEXT, provider=self.name, model=self.model)
        self.calls.append((began, time.perf_counter()))
        return completion

    async def aclose(self) -> None:
        """Nothing to close."""
