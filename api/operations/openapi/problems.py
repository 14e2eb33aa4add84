"""The problems in the document: their types with meaning and remedy, and a response for each status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from api.http.problem_types import PROBLEM_TYPES, ProblemType
from api.http.problems import PROBLEM_TYPE
from api.operations import headers
from api.operations.operation import Operation

EXAMPLE_ID = "7d0b1f0c4b3f4a1e9c55a3b0b6f3c2d1"
EVERY_OPERATION = frozenset({403, 414, 417, 422, 431, 500, 503})
WITH_CREDENTIALS = frozenset({401, 429})
WITH_PATH = frozenset({404})
WITH_BODY = frozenset({400, 408, 413, 415})


def statuses_of(operation: Operation) -> list[int]:
    """Return the statuses of the problems that an operation may respond with."""
    found = EVERY_OPERATION | set(operation.errors)
    found |= set() if operation.public else WITH_CREDENTIALS
    found |= WITH_PATH if operation.models.path else set()
    found |= WITH_BODY if operation.models.body else set()
    return sorted(found)


def reference(status: int) -> dict[str, str]:
    """Return a reference to the response of a status."""
    return {"$ref": f"#/components/responses/{_name(status)}"}


def responses(statuses: set[int]) -> dict[str, Any]:
    """Return the responses of these statuses by name."""
    return {_name(status): _response(status) for status in sorted(statuses)}


def type_schema() -> dict[str, Any]:
    """Return the schema of a problem's ``type``: those that there are, and room for more."""
    known = "\n".join(f"- `{each.uri}`: {each.meaning} {each.remedy}" for each in PROBLEM_TYPES.values())
    # Open, so that a further type is no incompatible change: a client goes by the status if it does not know the type.
    return {
        "description": "What is wrong, as a path of this service that says what it means and what to do. Types may be"
        f" added: handle one that you do not know by its status.\n\n{known}",
        "anyOf": [
            {"type": "string", "enum": [each.uri for each in PROBLEM_TYPES.values()]},
            {"type": "string", "format": "uri-reference"},
        ],
    }


def _name(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.replace("-", " ").split())


def _response(status: int) -> dict[str, Any]:
    types = [each for each in PROBLEM_TYPES.values() if each.status == status]
    assert types, f"no type of problem has the status {status}"
    sent = {name for each in types for name in each.headers}
    always = set.intersection(*({*each.headers} for each in types))
    return {
        "description": "\n".join(f"- `{each.name}`: {each.meaning}" for each in types),
        "headers": {each.name: {"$ref": f"#/components/headers/{each.name}"} for each in headers.EVERYWHERE}
        | {
            name: {"$ref": f"#/components/headers/{name}"} if name not in always else _required(name)
            for name in sorted(sent)
        },
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {each.name: {"summary": each.meaning, "value": _example(each)} for each in types},
            }
        },
    }


def _required(name: str) -> dict[str, Any]:
    header = headers.OF_PROBLEMS[name]
    return {"description": header.description, "required": True, "schema": header.schema}


def _example(each: ProblemType) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": each.uri,
        "title": each.title,
        "status": each.status,
        "detail": each.meaning,
        "request_id": EXAMPLE_ID,
    }
    return body | {name: _value(schema) for name, schema in each.members.items()}


def _value(schema: dict[str, str]) -> Any:
    return 7 if schema["type"] == "integer" else "4321893dc18b145ad336300ff5929711a5a3836075522f016a319d8b3793304e"
