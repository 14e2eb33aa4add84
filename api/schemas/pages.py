"""Which part of a listing."""

from __future__ import annotations

from pydantic import Field

from api.http.values import Whole
from api.operations.models import Input


class PageQuery(Input):
    """Which page of a listing."""

    limit: Whole = Field(default=50, ge=1, le=200)
    cursor: str | None = None
