"""The variables of templates.

Text that people typed is only ever the value of a variable; it is never rendered as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def filled(blank: Mapping[str, Any], given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return exactly the fields of ``blank``, each with its given value or its blank one; None if nothing is given."""
    # A snapshot may be older than a field, and a template that was checked must still find it.
    return None if given is None else {field: given.get(field) or value for field, value in blank.items()}
