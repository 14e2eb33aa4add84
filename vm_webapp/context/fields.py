"""The content of brands and projects, field by field: what snapshots hold and templates may name.

Everything here follows from the columns of the two tables, so that a new column needs no second list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from peewee import DateField, Field, ForeignKeyField, TextField

from vm_webapp.db.models import Brand, JSONBField, Project, Resource


@dataclass(frozen=True, slots=True)
class ContentField:
    """A field as snapshots and templates have it: JSON values only, so a date is its ISO 8601 text.

    Attributes:
        name: the field's name.
        blank: its value where nothing is given: a template may loop over any list.
        sample: a value to try templates with.
    """

    name: str
    blank: Any
    sample: Any


# One entry for each type of column that content may have; a model with another one fails when it is imported.
_VALUES: tuple[tuple[type[Field], Any, Any], ...] = (
    (TextField, "", "text"),
    (JSONBField, (), ["text"]),
    (DateField, None, "2026-01-05"),
)


def content_columns(model: type[Resource]) -> list[Field]:
    """Return a table's own columns without those of every resource and without foreign keys, in their order."""
    shared = Resource._meta.fields
    return [
        field
        for field in model._meta.sorted_fields
        if field.name not in shared and not isinstance(field, ForeignKeyField)
    ]


def content_fields(model: type[Resource]) -> tuple[ContentField, ...]:
    """Return the content of a table, field by field.

    Raises:
        TypeError: a column's type has no blank value yet.
    """
    return tuple(_content_field(field) for field in content_columns(model))


def content_of(record: Resource) -> dict[str, Any]:
    """Return the content of a brand or a project as JSON values: what a run's snapshot holds of it."""
    values = ((column.name, getattr(record, column.name)) for column in content_columns(type(record)))
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values}


def _content_field(field: Field) -> ContentField:
    for kind, blank, sample in _VALUES:
        if isinstance(field, kind):
            return ContentField(field.name, blank, sample)
    raise TypeError(f"{field.model.__name__}.{field.name}: say what a blank {type(field).__name__} is")


def blanks(fields: tuple[ContentField, ...]) -> Mapping[str, Any]:
    """Return each field's value where nothing is given."""
    return {field.name: field.blank for field in fields}


def samples(fields: tuple[ContentField, ...]) -> Mapping[str, Any]:
    """Return a value for each field."""
    return {field.name: field.sample for field in fields}


BRAND_FIELDS = content_fields(Brand)
PROJECT_FIELDS = content_fields(Project)
