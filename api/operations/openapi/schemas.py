"""The JSON schemas of the document, made of the models of requests and responses."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from api.operations.pages import PageOut, plural_of

REFERENCE = "#/components/schemas/{model}"
NOT_BLANK = r"\S"

Schema = dict[str, Any]


class _Schemas(GenerateJsonSchema):
    """Generates schemas as clients need them: with names of their own, and with what pydantic's leave out."""

    def normalize_name(self, name: str) -> str:
        """Return the name of a model in the document: RunsOut for a page of runs, rather than PageOut_RunOut_."""
        generic = re.fullmatch(rf"{PageOut.__name__}\[(\w+)\]", name)
        return plural_of(generic[1]) if generic else super().normalize_name(name)

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles of fields, which only repeat the fields' names."""
        return False

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """Return the schema of a text; one that is stripped and must not be empty must not be blank either."""
        made = super().str_schema(schema)
        if schema.get("strip_whitespace") and schema.get("min_length"):
            made.setdefault("pattern", NOT_BLANK)
        return made


def schemas_of(
    bodies: Collection[type[BaseModel]], responses: Collection[type[BaseModel]]
) -> tuple[dict[type[BaseModel], Schema], dict[str, Schema]]:
    """Return references to the models' schemas, and all schemas by name."""
    # Sorted, because sets have no order: the document must be the same in every process.
    wanted: list[Any] = [(model, "validation") for model in sorted(bodies, key=_name)]
    # By their serialisation, in which a field with a default is always present and thus required.
    wanted += [(model, "serialization") for model in sorted(responses, key=_name)]
    refs, schemas = models_json_schema(wanted, ref_template=REFERENCE, schema_generator=_Schemas)
    by_model: dict[Any, Schema] = {model: ref for (model, _), ref in refs.items()}
    found: dict[str, Schema] = as_markdown(schemas["$defs"])
    for model in bodies:
        _tell_defaults(found[model.__name__])
    return by_model, found


def schema_of(model: type[BaseModel]) -> Schema:
    """Return the schema of the parameters that a model holds, one property each."""
    made: Schema = as_markdown(model.model_json_schema(schema_generator=_Schemas, ref_template=REFERENCE))
    return made


def without_null(schema: Schema) -> Schema:
    """Return the schema without its null: a caller omits a parameter, since a query cannot hold a null."""
    kept = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return rest | kept[0] if len(kept) == 1 else rest | ({"anyOf": kept} if kept else {})


def as_markdown(schema: Any) -> Any:
    """Return the schema with its descriptions in Markdown: docstrings mark code by two backticks, Markdown by one."""
    if isinstance(schema, dict):
        return {
            name: value.replace("``", "`") if name == "description" and isinstance(value, str) else as_markdown(value)
            for name, value in schema.items()
        }
    return [as_markdown(each) for each in schema] if isinstance(schema, list) else schema


def _tell_defaults(body: Schema) -> None:
    """Say in words what is taken for a field that is left out.

    Generators take a default for a promise that the field is there, and make senders set it.
    """
    for field in body.get("properties", {}).values():
        default = field.pop("default", None)
        if default not in (None, "", []):
            told = f"By default `{json.dumps(default)}`."
            field["description"] = f"{field['description']} {told}" if "description" in field else told


def _name(model: type[BaseModel]) -> str:
    return model.__name__
