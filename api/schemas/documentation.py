"""Models of the documentation's pages."""

from __future__ import annotations

from api.operations.models import Input


class PagePath(Input):
    """A page."""

    page: str
