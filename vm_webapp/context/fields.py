"""The content of brands and projects, field by field, as snapshots store it and templates may use it.

Everything here is derived from the columns of the two tables, so that a new column needs no second list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from peewee import DateField, Field, ForeignKeyField, TextField

from vm_webapp.db.models import Administrative, Brand, JSONBField, Project, Resource


@dataclass(frozen=True, slots=True)
class ContentField:
    """A field as snapshots and templates see it: JSON values only, so a date is its ISO 8601 text.

    Attributes:
        name: the field's name.
        blank: its value if none is given; for a list the empty list, so that a template may loop over it.
        sample: a value with which templates are checked.
    """

    name: str
    blank: Any
    sample: Any


# One entry for each type of column that content may have. A column of any other type fails at import, at the end of
# this module, instead of in the first template that uses it.
_VALUES: tuple[tuple[type[Field], Any, Any], ...] = (
    (TextField, "", "text"),
    (JSONBField, (), ["text"]),
    (DateField, None, "2026-01-05"),
)


@cache
def content_columns(model: type[Resource]) -> tuple[Field, ...]:
    """Return the columns of a table that hold content, in their order."""
    shared = Resource._meta.fields
    return tuple(
        field
        for field in model._meta.sorted_fields
        if field.name not in shared and not isinstance(field, ForeignKeyField | Administrative)
    )


def content_fields(model: type[Resource]) -> tuple[ContentField, ...]:
    """Return the content of a table, field by field.

    Raises:
        TypeError: a column's type has no blank value yet.
    """
    return tuple(_content_field(field) for field in content_columns(model))


def content_of(record: Resource) -> dict[str, Any]:
    """Return the content of a brand or a project as JSON values, as a run's snapshot stores it."""
    values = ((column.name, getattr(record, column.name)) for column in content_columns(type(record)))
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values}


def _content_field(field: Field) -> ContentField:
    for kind, blank, sample in _VALUES:
        if isinstance(field, kind):
            return ContentField(field.name, blank, sample)
    raise TypeError(f"{field.model.__name__}.{field.name}: say what a blank {type(field).__name__} is")


def blanks(fields: tuple[ContentField, ...]) -> Mapping[str, Any]:
    """Return each field's value if none is given."""
    return {field.name: field.blank for field in fields}


def samples(fields: tuple[ContentField, ...]) -> Mapping[str, Any]:
    """Return a sample value for each field."""
    return {field.name: field.sample for field in fields}


BRAND_FIELDS = content_fields(Brand)
PROJECT_FIELDS = content_fields(Project)
