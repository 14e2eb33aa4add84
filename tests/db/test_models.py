"""The models describe the migrated schema, table by table and column by column: neither has more than the other."""

from __future__ import annotations

from typing import Any

import pytest
from peewee import ForeignKeyField

from vm_webapp.db.models import Resource, Table
from vm_webapp.db.pool import rows, transaction

pytestmark = pytest.mark.usefixtures("database")

NOT_MIGRATED = "^_|^yoyo_"  # created by yoyo and by the archive of migrations
TYPES = {  # Peewee's name for a type of column, where PostgreSQL's catalogue has another
    "INT": "integer",
    "BOOL": "boolean",
    "BLOB": "bytea",
    "DECIMAL": "numeric(20,9)",  # money
    "DOUBLE": "double precision",
    "TIMESTAMPTZ": "timestamp with time zone",
}


def _models(parent: type[Table] = Table) -> list[type[Table]]:
    children = [child for child in parent.__subclasses__() if child is not Resource]
    return [*children, *(model for each in parent.__subclasses__() for model in _models(each))]


MODELS = _models()


def test_each_table_has_a_model() -> None:
    with transaction():
        found = rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND relname !~ %(not_migrated)s",
            not_migrated=NOT_MIGRATED,
        )
    assert sorted(each["relname"] for each in found) == sorted(model._meta.table_name for model in MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_each_column_is_described_as_it_is(model: Any) -> None:
    """Compare name, type, NULL, primary key, and for a foreign key its table and its ON DELETE."""
    with transaction():
        columns = rows(
            """
            SELECT attname AS name, format_type(atttypid, atttypmod) AS type, NOT attnotnull AS null,
                   EXISTS (SELECT FROM pg_constraint
                            WHERE conrelid = attrelid AND contype = 'p' AND conkey = ARRAY[attnum]) AS primary_key,
                   foreign_key.table AS refers_to, foreign_key.on_delete
              FROM pg_attribute
              LEFT JOIN LATERAL (
                   SELECT confrelid::regclass::text AS table, confdeltype AS on_delete FROM pg_constraint
                    WHERE conrelid = attrelid AND contype = 'f' AND conkey = ARRAY[attnum]) foreign_key ON true
             WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped
             ORDER BY name
            """,
            table=model._meta.table_name,
        )
    described = [_description(field) for field in model._meta.sorted_fields]
    assert columns == sorted(described, key=lambda column: column["name"])


def _description(field: Any) -> dict[str, Any]:
    refers = isinstance(field, ForeignKeyField)
    actions = {None: "a", "SET NULL": "n", "CASCADE": "c"}
    type_ = (field.rel_field if refers else field).field_type
    return {
        "name": field.column_name,
        "type": TYPES.get(type_, type_.lower()),
        "null": field.null,
        "primary_key": field.primary_key,
        "refers_to": field.rel_model._meta.table_name if refers else None,
        "on_delete": actions[field.on_delete] if refers else None,
    }
