"""The shapes of brands and projects."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from api.http.values import Flag, Moment
from api.operations.models import Input, Output
from api.schemas.pages import PageQuery

MOST_ITEMS = 100

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, max_length=20_000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
Lines = Annotated[list[Line], Field(default_factory=list, max_length=MOST_ITEMS)]


def _unchanged() -> Any:
    """Return the default of a field that stays as it is when it is left out; the document shows none."""
    return Field(default=None, json_schema_extra=_drop_default)


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class ShelfQuery(PageQuery):
    """Which page; archived ones only where they are asked for."""

    archived: Flag = False


class BrandPath(Input):
    """A brand."""

    brand_id: UUID


class BrandIn(Input):
    """A new brand."""

    name: Name
    voice: Prose = ""
    audience: Prose = ""
    products: Lines
    facts: Lines
    forbidden_words: Lines


class BrandChangeIn(Input):
    """What to change; what is left out stays as it is."""

    name: Name = _unchanged()
    voice: Prose = _unchanged()
    audience: Prose = _unchanged()
    products: Lines
    facts: Lines
    forbidden_words: Lines


class BrandOut(Output):
    """A brand."""

    id: UUID
    name: str
    voice: str
    audience: str
    products: list[str]
    facts: list[str]
    forbidden_words: list[str]
    version: int
    created_at: Moment
    updated_at: Moment
    archived_at: Moment | None


class BrandsOut(Output):
    """A page of brands."""

    items: list[BrandOut]
    next_cursor: str | None


class ProjectPath(Input):
    """A project."""

    project_id: UUID


class ProjectIn(Input):
    """A new project."""

    name: Name
    brand_id: UUID | None = None
    objective: Prose = ""
    channels: Lines
    starts_on: date | None = None
    ends_on: date | None = None


class ProjectChangeIn(Input):
    """What to change; what is left out stays as it is, null empties it."""

    name: Name = _unchanged()
    brand_id: UUID | None = _unchanged()
    objective: Prose = _unchanged()
    channels: Lines
    starts_on: date | None = _unchanged()
    ends_on: date | None = _unchanged()


class ProjectOut(Output):
    """A project."""

    id: UUID
    brand_id: UUID | None
    name: str
    objective: str
    channels: list[str]
    starts_on: date | None
    ends_on: date | None
    version: int
    created_at: Moment
    updated_at: Moment
    archived_at: Moment | None


class ProjectsOut(Output):
    """A page of projects."""

    items: list[ProjectOut]
    next_cursor: str | None
