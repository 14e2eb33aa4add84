"""The providers without a model: one writes worksheets, one returns what a template renders to."""

from __future__ import annotations

from collections.abc import Callable

from vm_webapp.llm.base import Assignment, Completion
from vm_webapp.llm.worksheet import write_worksheet


class OfflineProvider:
    """Writes worksheets from the request, the brand, the project and the outline of the stage."""

    name = "offline"
    model: str | None = None

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the worksheet for an assignment."""
        text = write_worksheet(assignment)
        if on_text is not None:
            on_text(text)
        return Completion(text, provider=self.name)

    async def aclose(self) -> None:
        """Nothing to close."""


class TemplateProvider:
    """Returns the rendered prompt, which is the artifact of a stage that needs no model."""

    name = "template"
    model: str | None = None

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the rendered prompt as the completion."""
        if on_text is not None:
            on_text(assignment.user)
        return Completion(assignment.user, provider=self.name)

    async def aclose(self) -> None:
        """Nothing to close."""
