"""The OpenAPI 3.1 document, generated from the declared operations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from api.http.problems import PROBLEM_TYPE, Problem
from api.operations.operation import PREFIX, Operation
from api.operations.pages import PageOut, plural_of
from vm_webapp import __version__

REFERENCE = "#/components/schemas/{model}"
EVERYWHERE = frozenset({403, 422, 500, 503})
WITH_CREDENTIALS = frozenset({401, 429})
WITH_PATH = frozenset({404})
WITH_BODY = frozenset({400, 408, 413, 415})
WITHOUT_CONTENT = frozenset({304})


class _Schemas(GenerateJsonSchema):
    """Generates schemas in which a page of runs has the name of its class, RunsOut, rather than PageOut_RunOut_."""

    def normalize_name(self, name: str) -> str:
        """Return the name of a model in the document."""
        generic = re.fullmatch(rf"{PageOut.__name__}\[(\w+)\]", name)
        return plural_of(generic[1]) if generic else super().normalize_name(name)


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of these operations."""
    listed = list(operations)
    bodies = {each.models.body for each in listed if each.models.body}
    responses = {each.response_model for each in listed if each.response_model} | {Problem}
    # Sorted, because sets have no order: the document must be the same in every process.
    wanted: list[Any] = [(model, "validation") for model in sorted(bodies, key=_name)]
    # By their serialisation, in which a field with a default is always present and thus required.
    wanted += [(model, "serialization") for model in sorted(responses, key=_name)]
    refs, schemas = models_json_schema(wanted, ref_template=REFERENCE, schema_generator=_Schemas)
    by_model = {model: ref for (model, _), ref in refs.items()}
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        paths.setdefault(PREFIX + each.path, {})[each.method.lower()] = _operation(each, by_model)
    return {
        "openapi": "3.1.0",
        "info": {"title": "VM Webapp", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(each: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "parameters": [*_parameters("path", each.models.path), *_parameters("query", each.models.query)],
        "responses": _responses(each, refs),
    }
    if each.models.body is not None:
        body = {"application/json": {"schema": refs[each.models.body]}}
        entry["requestBody"] = {"required": True, "content": body}
    # For schemes other than OAuth the list names roles (OpenAPI 3.1, "Security Requirement Object").
    entry["security"] = [{"bearer": [each.role]}] if each.role else []
    return entry


def _responses(each: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    problems = EVERYWHERE | set(each.errors)
    problems |= set() if each.public else WITH_CREDENTIALS
    problems |= WITH_PATH if each.models.path else set()
    problems |= WITH_BODY if each.models.body else set()
    found: dict[str, Any] = {
        str(status): {"description": HTTPStatus(status).phrase, "content": {PROBLEM_TYPE: {"schema": refs[Problem]}}}
        for status in sorted(problems)
    }
    content = {each.media_type: {"schema": refs[each.response_model] if each.response_model else {}}}
    for status in (each.status, *each.also):
        described = {} if status in WITHOUT_CONTENT else {"content": content}
        found[str(status)] = {"description": HTTPStatus(status).phrase} | described
    return found


def _parameters(place: str, model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema()
    required = schema.get("required", ())
    return [
        {"name": name, "in": place, "required": name in required, "schema": _without_null(value)}
        for name, value in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without its null: a caller omits a parameter, since a query cannot hold a null."""
    kept = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    return rest | kept[0] if len(kept) == 1 else rest | ({"anyOf": kept} if kept else {})


def _name(model: type[BaseModel]) -> str:
    return model.__name__
