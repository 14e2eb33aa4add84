"""The OpenAPI 3.1 document, generated from the declared operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.typed import Operation
from vm_webapp import __version__

PREFIX = "/api/v2"
REFERENCE = "#/components/schemas/{model}"
EVERYWHERE = (401, 422, 500, 503)

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the document for these operations."""
    listed = list(operations)
    inputs = {model for each in listed for model in (each.path_model, each.query_model, each.body_model) if model}
    outputs = {each.answer for each in listed if each.answer}
    wanted: list[Any] = [(model, "validation") for model in sorted(inputs, key=_name)]
    wanted += [(model, "serialization") for model in sorted(outputs, key=_name)]
    refs, schemas = models_json_schema(wanted, ref_template=REFERENCE)
    by_model = {model: ref for (model, _), ref in refs.items()}
    components = schemas.get("$defs", {}) | {"Problem": PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        entry = _operation(each, by_model, components)
        paths.setdefault(PREFIX + each.path, {})[each.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": "VM Webapp", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(each: Operation, refs: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    for place, model in (("path", each.path_model), ("query", each.query_model)):
        if model is not None:
            parameters += _parameters(place, model, components)
    content: dict[str, Any] = {each.media_type: {"schema": refs[each.answer] if each.answer else {}}}
    answers: dict[str, Any] = {str(each.status): {"description": each.summary, "content": content}}
    problem = {"schema": {"$ref": REFERENCE.format(model="Problem")}}
    for status in sorted({*EVERYWHERE, *each.errors}):
        answers.setdefault(str(status), {"description": "A problem", "content": {"application/problem+json": problem}})
    entry: dict[str, Any] = {
        "operationId": each.function.__name__,
        "summary": each.summary,
        "parameters": parameters,
        "responses": answers,
    }
    if each.body_model is not None:
        body = {"application/json": {"schema": refs[each.body_model]}}
        entry["requestBody"] = {"required": True, "content": body}
    return entry


def _parameters(place: str, model: type[BaseModel], components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components[model.__name__]
    required = schema.get("required", ())
    return [
        {"name": name, "in": place, "required": place == "path" or name in required, "schema": value}
        for name, value in schema.get("properties", {}).items()
    ]


def _name(model: type[BaseModel]) -> str:
    return model.__name__
