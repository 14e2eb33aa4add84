"""A model that responds at once, in the process of the worker: what remains is the cost of the queue."""

from __future__ import annotations

from collections.abc import Callable

from vm_webapp.llm.base import Assignment, Completion

TEXT = "# A document\n\n" + "Some words of it.\n" * 114  # 2 KB


def write() -> str:
    """Return a text of 2 KB."""
    return TEXT


class InstantProvider:
    """Returns a text of 2 KB for every assignment."""

    name = "kimi"
    model: str | None = "instant"

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the text."""
        return Completion(TEXT, provider=self.name, model=self.model)

    async def aclose(self) -> None:
        """Nothing to close."""
