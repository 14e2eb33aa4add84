"""Brands and projects in the API: each is declared by its fields, from which the schemas of its operations follow."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Which page; archived resources are included only on request."""

    archived: Flag = False


class ResourcePath(Input):
    """One resource, by its id."""

    id: UUID


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type of resource that people create, list, read, change and archive.

    Attributes:
        noun: the name of one resource in paths and summaries, such as ``brand``.
        repository: where the resources are stored.
        path: the path parameters that identify one.
        new: the body of a request that creates one.
        change: the body of a request that changes one; a field that is left out stays as it is.
        out: one resource in a response.
        page: a page of them in a response.
    """

    noun: str
    repository: Repository[Any]
    path: type[ResourcePath]
    new: type[Input]
    change: type[Input]
    out: type[Output]
    page: type[PageOut[Any]]


def declare(
    noun: str, repository: Repository[Any], new: type[Input], *, change: str, shown: Mapping[str, Any] | None = None
) -> ResourceType:
    """Declare a type of resource.

    Args:
        noun: the name of one resource in paths and summaries, such as ``brand``.
        repository: where the resources are stored.
        new: the body of a request that creates one. In a change each of its fields is optional; a response has each of
            them, and the id, the version and the times that all resources have.
        change: the description of a change in the OpenAPI document.
        shown: the types of fields that a response has in another shape than a request.
    """
    named = noun.capitalize()
    changed = {name: _may_be_left_out(field) for name, field in new.model_fields.items()}
    returned: dict[str, Any] = {
        "id": UUID,
        # Without the constraints: what is stored passed those of its time, and a response must not fail later ones.
        **get_type_hints(new) | dict(shown or {}),
        "version": int,
        "created_at": Moment,
        "updated_at": Moment,
        "archived_at": Moment | None,
    }
    out = _model(f"{named}Out", Output, f"A {noun}.", {name: (hint, ...) for name, hint in returned.items()})
    return ResourceType(
        noun=noun,
        repository=repository,
        # The field is ``id`` for every type, whatever the parameter is called, so that all types share their handlers.
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
    # The handler reads only the fields that were sent, so the default means nothing and must not be documented.
    left_out = Field(default=None, json_schema_extra=_drop_default)
    return field.rebuild_annotation(), left_out


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)
