"""Brands and projects in the API: each is declared by its fields, and the shapes of its operations follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_type_hints
from uuid import UUID

from pydantic import Field, StringConstraints, create_model
from pydantic.fields import FieldInfo

from api.http.values import Flag, Moment
from api.operations.models import Input, Output
from api.operations.pages import PageOut, PageQuery, page_of
from vm_webapp.context import Repository

MOST_ITEMS = 100

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, max_length=20_000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
Lines = Annotated[list[Line], Field(default_factory=list, max_length=MOST_ITEMS)]


class ResourceQuery(PageQuery):
    """Which page; archived ones only where they are asked for."""

    archived: Flag = False


class ResourcePath(Input):
    """One resource; the path says which type's id it is."""

    id: UUID


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type of resource that people create, list, read, change and archive.

    Attributes:
        noun: what a person calls one.
        repository: where they are stored.
        path: identifies one in a path.
        new: the body of a request that creates one.
        change: the body of a request that changes one: a field that is left out stays as it is.
        out: one, as it is returned.
        page: a page of them, as it is returned.
    """

    noun: str
    repository: Repository[Any]
    path: type[ResourcePath]
    new: type[Input]
    change: type[Input]
    out: type[Output]
    page: type[PageOut[Any]]


def declare(noun: str, repository: Repository[Any], new: type[Input], *, change: str) -> ResourceType:
    """Declare a type of resource.

    Args:
        noun: what a person calls one.
        repository: where they are stored.
        new: the body of a request that creates one. A change may hold each of its fields and needs none; a response
            holds each of them beside the id, the version and the times that all resources have.
        change: what the documentation says of a change.
    """
    named = noun.capitalize()
    changed = {name: _may_be_left_out(field) for name, field in new.model_fields.items()}
    returned: dict[str, Any] = {
        "id": UUID,
        **get_type_hints(new),  # without the constraints: what is stored has passed them, perhaps older ones
        "version": int,
        "created_at": Moment,
        "updated_at": Moment,
        "archived_at": Moment | None,
    }
    out = _model(f"{named}Out", Output, f"A {noun}.", {name: (hint, ...) for name, hint in returned.items()})
    return ResourceType(
        noun=noun,
        repository=repository,
        path=_model(f"{named}Path", ResourcePath, f"A {noun}.", {"id": (UUID, Field(alias=f"{noun}_id"))}),
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
    """Return a field with a default that is never read and that the OpenAPI document does not show."""
    left_out = Field(default=None, json_schema_extra=_drop_default)
    return field.rebuild_annotation(), left_out


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)
