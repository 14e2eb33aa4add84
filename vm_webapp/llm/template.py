"""The provider of stages that need no model: the rendered template is the artifact."""

from __future__ import annotations

from collections.abc import Callable

from vm_webapp.llm.base import Assignment, Completion


class TemplateProvider:
    """Returns the rendered prompt."""

    name = "template"
    model: str | None = None

    async def complete(self, assignment: Assignment, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Return the rendered prompt as the completion."""
        if on_text is not None:
            on_text(assignment.user)
        return Completion(assignment.user, provider=self.name)

    async def aclose(self) -> None:
        """Nothing to close."""
