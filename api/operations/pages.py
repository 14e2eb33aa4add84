"""Pages of listings: the query that selects one, and the response body that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import to_json

from api.http.cursors import Cursor
from api.http.values import Whole
from api.operations.models import Input, Output
from vm_webapp.db.paging import Page

Item = TypeVar("Item", bound=BaseModel)


def plural_of(name: str) -> str:
    """Return the name of a page of a model: RunsOut for RunOut."""
    return f"{name.removesuffix('Out')}sOut"


def _describe(schema: dict[str, Any]) -> None:
    schema.setdefault("description", "A page of a listing; next_cursor leads to the next one, null on the last.")


class PageQuery(Input):
    """Which page of a listing."""

    limit: Whole = Field(default=50, ge=1, le=200)
    cursor: str | None = None


class PageOut(Output, Generic[Item]):
    """A page, built from a page of the core, or from a sequence that is a whole listing."""

    model_config = ConfigDict(json_schema_extra=_describe)

    items: list[Item]
    next_cursor: str | None

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Return the name of the class for this type of items."""
        return plural_of(params[0].__name__)

    @classmethod
    def json_of(cls, records: Any, context: Mapping[Any, Any]) -> str:
        """Return the JSON of a page of records, each of which is written as it would be alone."""
        page = records if isinstance(records, Page) else Page(tuple(records), None)
        (model,) = get_args(cls.model_fields["items"].annotation)
        items = ",".join(model.json_of(record, context) for record in page.items)
        position = None if page.next_position is None else _written(page.next_position)
        return f'{{"items":[{items}],"next_cursor":{to_json(position).decode()}}}'

    @model_validator(mode="before")
    @classmethod
    def _of_records(cls, found: Any) -> Any:
        if isinstance(found, Page):
            return {"items": found.items, "next_cursor": _written(found.next_position)}
        return {"items": found, "next_cursor": None} if isinstance(found, list | tuple) else found


def page_of(model: type[Item]) -> type[PageOut[Item]]:
    """Return the model of a page of a model that is created at run time."""
    return PageOut[model]  # type: ignore[valid-type]


def _written(position: Any) -> str | None:
    # The position in a timeline is the id of an event, which callers know anyway.
    return str(position) if isinstance(position, int) else Cursor.of(position)
