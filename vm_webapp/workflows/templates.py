"""The template language of prompts, and its variables.

Text that people typed is only ever the value of a variable; it is never rendered as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vm_webapp.context.fields import BRAND_FIELDS, PROJECT_FIELDS, blanks

BLANK_BRAND = blanks(BRAND_FIELDS)
BLANK_PROJECT = blanks(PROJECT_FIELDS)
VARIABLES = frozenset(
    {
        "request",
        "brand",
        "project",
        "artifacts",
        "earlier",
        "feedback",
        "draft",
        "draft_truncated",
        "remarks",
        "today",
        "workflow",
        "stage",
        "sections",
    }
)


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """Jinja without side effects, in which every name must exist."""

    def __init__(self) -> None:
        # StrictUndefined: a misspelt name fails when the workflow is loaded, instead of leaving a gap in a prompt.
        super().__init__(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute; of a mapping, its item and never its method."""
        # Jinja tries attributes first: ``artifacts.copy`` would be dict.copy and not the artifact of a stage ``copy``.
        if obj is None:
            return self.undefined(f"{attribute} is read from none: use {{% if %}} around what may be none")
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)


environment = PromptEnvironment()


@lru_cache(maxsize=512)
def compiled(source: str) -> Template:
    """Return a template's compiled form, cached because each worker renders the same few templates again and again."""
    return environment.from_string(source)


def filled(blank: Mapping[str, Any], given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return exactly the fields of ``blank``, each with its given value or its blank one; None if nothing is given."""
    # A snapshot may be older than a field, and a template that was checked must still find it.
    return None if given is None else {field: given.get(field) or value for field, value in blank.items()}
