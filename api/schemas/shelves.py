"""What people keep on a shelf: a kind is declared by its fields, and the shapes of its operations follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar, get_type_hints
from uuid import UUID

from pydantic import Field, StringConstraints, create_model
from pydantic.fields import FieldInfo

from api.http.values import Flag, Moment
from api.operations.models import Input, Output
from api.operations.pages import PageOut, PageQuery, page_of
from vm_webapp.context import Brand, Project, Shelf

MOST_ITEMS = 100
ANSWERED_AS: dict[Any, Any] = {datetime: Moment, datetime | None: Moment | None}

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, max_length=20_000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
Lines = Annotated[list[Line], Field(default_factory=list, max_length=MOST_ITEMS)]

Record = TypeVar("Record", bound=Brand | Project)


class ShelfQuery(PageQuery):
    """Which page; archived ones only where they are asked for."""

    archived: Flag = False


class KeptPath(Input):
    """One of a kind; the path says which kind's id it is."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Kind(Generic[Record]):
    """A kind of thing that people create, list, read, change and archive.

    Attributes:
        noun: what a person calls one.
        shelf: where they are kept.
        path: names one.
        new: a new one, as it is sent.
        change: what to change, as it is sent: what is left out stays as it is.
        out: one, as it is answered.
        page: a page of them, as it is answered.
    """

    noun: str
    shelf: Shelf[Record]
    path: type[KeptPath]
    new: type[Input]
    change: type[Input]
    out: type[Output]
    page: type[PageOut[Any]]


def declare(noun: str, shelf: Shelf[Record], record: type[Record], new: type[Input], *, change: str) -> Kind[Record]:
    """Declare a kind.

    Args:
        noun: what a person calls one.
        shelf: where they are kept.
        record: how the core returns one: so it is answered, field by field.
        new: a new one, as it is sent; a change may hold each of its fields and needs none.
        change: what the documentation says of a change.
    """
    named = noun.capitalize()
    answered = {name: (ANSWERED_AS.get(hint, hint), ...) for name, hint in get_type_hints(record).items()}
    changed = {name: _may_be_left_out(field) for name, field in new.model_fields.items()}
    out = _model(f"{named}Out", Output, f"A {noun}.", answered)
    return Kind(
        noun=noun,
        shelf=shelf,
        path=_model(f"{named}Path", KeptPath, f"A {noun}.", {"id": (UUID, Field(alias=f"{noun}_id"))}),
        new=new,
        change=_model(f"{named}ChangeIn", Input, change, changed),
        out=out,
        page=page_of(out),
    )


Base = TypeVar("Base", bound=Input | Output)


def _model(name: str, base: type[Base], doc: str, fields: dict[str, Any]) -> type[Base]:
    made: type[Base] = create_model(name, __base__=base, __doc__=doc, __module__=__name__, **fields)
    return made


def _may_be_left_out(field: FieldInfo) -> tuple[Any, Any]:
    """Return a field with a default that means nothing and that the document does not show."""
    left_out = Field(default=None, json_schema_extra=_drop_default)
    return field.rebuild_annotation(), left_out


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)
