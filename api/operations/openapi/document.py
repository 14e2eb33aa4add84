"""Assembles the document: paths, parameters, bodies and responses of every operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from api.auth.cookies import HOST_ONLY
from api.http.problems import Problem
from api.operations import headers
from api.operations.headers import Header
from api.operations.openapi import problems
from api.operations.openapi.links import Link
from api.operations.openapi.prose import ABOUT, TAGS
from api.operations.openapi.schemas import Schema, schema_of, schemas_of, without_null
from api.operations.operation import Operation
from vm_webapp import __version__

WITHOUT_CONTENT = frozenset({204, 303, 304})
NO_LINKS: Mapping[type[BaseModel], tuple[Link, ...]] = MappingProxyType({})
NO_EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


def describe(
    operations: Iterable[Operation],
    *,
    links: Mapping[type[BaseModel], tuple[Link, ...]] = NO_LINKS,
    examples: Mapping[str, Mapping[str, Any]] = NO_EXAMPLES,
) -> dict[str, Any]:
    """Return the OpenAPI document of these operations.

    Args:
        operations: the operations, in the order of the document.
        links: where a response with this model as its body leads.
        examples: a ``request`` and a ``response`` by ``operationId``.
    """
    listed = list(operations)
    bodies = {each.models.body for each in listed if each.models.body}
    responses = {each.response_model for each in listed if each.response_model} | {Problem}
    refs, schemas = schemas_of(bodies, responses)
    schemas["Problem"]["properties"]["type"] = problems.type_schema()
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        entry = _Entry(each, refs, schemas, links.get(each.response_model, ()) if each.response_model else ())
        paths.setdefault(each.full_path, {})[each.method.lower()] = entry.described(examples.get(each.name, {}))
    return {
        "openapi": "3.1.0",
        "info": {"title": "VM Webapp", "version": __version__, "description": ABOUT},
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems.responses({status for each in listed for status in problems.statuses_of(each)}),
            "parameters": {"X-Request-ID": _parameter("header", headers.REQUEST_ID_SENT)},
            "headers": {each.name: _sent(each) for each in (*headers.EVERYWHERE, *headers.OF_PROBLEMS.values())},
            "securitySchemes": SECURITY_SCHEMES,
        },
        "security": [{name: []} for name in SECURITY_SCHEMES],
    }


SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The value of VM_API_TOKEN, or a key. Each operation names the role that the key needs.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": HOST_ONLY,
        "description": "The session of a browser in which somebody has signed in, for the pages of this service. Over"
        " HTTP on a loopback address the cookie is called vm- and the port.",
    },
}


class _Entry:
    """The entry of one operation."""

    def __init__(
        self,
        operation: Operation,
        refs: Mapping[type[BaseModel], Schema],
        schemas: Mapping[str, Schema],
        links: tuple[Link, ...],
    ) -> None:
        self._operation = operation
        self._refs = refs
        self._schemas = schemas
        self._links = links

    def described(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry, with an example of its request and of its response."""
        each = self._operation
        entry: dict[str, Any] = {
            "operationId": each.name,
            "summary": each.summary,
            "tags": [each.tag],
            "parameters": self._parameters(),
            "responses": self._responses(example.get("response")),
        }
        if each.description:
            entry["description"] = each.description.replace("``", "`")
        if each.models.body is not None:
            body: dict[str, Any] = {"schema": self._refs[each.models.body]}
            if "request" in example:
                body["example"] = example["request"]
            entry["requestBody"] = {
                "required": self._needs_body(each.models.body),
                "content": {"application/json": body},
            }
        # For schemes other than OAuth the list names roles (OpenAPI 3.1, "Security Requirement Object").
        entry["security"] = [{name: [each.role]} for name in SECURITY_SCHEMES] if each.role else []
        return entry

    def _parameters(self) -> list[dict[str, Any]]:
        each = self._operation
        given = (*each.accepts, headers.IDEMPOTENCY_KEY) if each.keyed else each.accepts
        return [
            *_parameters_of("path", each.models.path),
            *_parameters_of("query", each.models.query),
            *(_parameter("header", header) for header in given),
            {"$ref": "#/components/parameters/X-Request-ID"},
        ]

    def _needs_body(self, model: type[BaseModel]) -> bool:
        schema = self._schemas[model.__name__]
        return bool(schema.get("required") or schema.get("anyOf"))

    def _responses(self, example: Any) -> dict[str, Any]:
        each = self._operation
        found = {str(status): problems.reference(status) for status in problems.statuses_of(each)}
        for status in (each.status, *each.also):
            found[str(status)] = self._response(status, example if status == each.status else None)
        return dict(sorted(found.items()))

    def _response(self, status: int, example: Any) -> dict[str, Any]:
        each = self._operation
        response: dict[str, Any] = {
            "description": each.meanings.get(status, HTTPStatus(status).phrase),
            "headers": {header.name: _reference(header) for header in headers.EVERYWHERE}
            | {header.name: _sent(header) for header in self._headers(status)},
        }
        if status not in WITHOUT_CONTENT:
            content: dict[str, Any] = {"schema": self._body()}
            if example is not None:
                content["example"] = example
            response["content"] = {each.media_type: content} | {
                media_type: {"schema": schema} for media_type, schema in each.alternatives.items()
            }
            if self._links and status == each.status:
                response["links"] = {link.operation: link.described() for link in self._links}
        return response

    def _headers(self, status: int) -> tuple[Header, ...]:
        each = self._operation
        found = each.returns if status not in (204, 303) else ()
        found += (headers.LOCATION,) if status in (201, 303) else ()
        return found + ((headers.REPLAYED,) if each.keyed else ())

    def _body(self) -> Schema:
        each = self._operation
        if each.response_model is not None:
            return self._refs[each.response_model]
        if each.media_type.startswith("text/"):
            return {"type": "string"}
        return {"type": "object"} if each.media_type == "application/json" else {"type": "string", "format": "binary"}


def _parameters_of(place: str, model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = schema_of(model)
    required = schema.get("required", ())
    found = []
    for name, value in schema["properties"].items():
        own = without_null(value)
        description = own.pop("description", None)
        entry: dict[str, Any] = {"name": name, "in": place, "required": name in required, "schema": own}
        found.append(entry | ({"description": description} if description else {}))
    return found


def _parameter(place: str, header: Header) -> dict[str, Any]:
    return {"name": header.name, "in": place} | _sent(header)


def _sent(header: Header) -> dict[str, Any]:
    return {"description": header.description, "required": header.required, "schema": header.schema}


def _reference(header: Header) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{header.name}"}
