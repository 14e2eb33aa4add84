"""Which changes of the API's description are incompatible, and which are not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.contract_changes import incompatible_changes

Document = dict[str, Any]
BEFORE: Document = {
    "paths": {
        "/things": {
            "post": {
                "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 200}}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "name": {"type": "string", "maxLength": 20},
                                    "size": {"enum": ["small", "large"]},
                                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                                },
                                "required": ["name"],
                            }
                        }
                    }
                },
                "responses": {
                    "201": {
                        "headers": {"Location": {"schema": {"type": "string"}}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                    },
                    "409": {"description": "Conflict"},
                },
                "security": [{"bearer": ["editor"]}],
            }
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "status": {"enum": ["new", "old"]},
                    "kind": {"anyOf": [{"const": "a"}, {"type": "string"}]},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
                },
                "required": ["id", "status"],
            }
        }
    },
}
POST = ("paths", "/things", "post")
SENT = (*POST, "requestBody", "content", "application/json", "schema")
THING = ("components", "schemas", "Thing")


def changed(place: tuple[str | int, ...], change: Callable[[Any], Any]) -> Document:
    """Return the document with one part changed in place."""
    document = copy.deepcopy(BEFORE)
    part: Any = document
    for name in place:
        part = part[name]
    change(part)
    return document


@pytest.mark.parametrize(
    ("place", "change", "sentence"),
    [
        (("paths",), lambda part: part.clear(), "POST /things: removed"),
        (POST, lambda part: part["parameters"].clear(), "query parameter limit: removed"),
        ((*POST, "parameters", 0), lambda part: part.update(required=True), "query parameter limit: required"),
        ((*POST, "parameters", 0, "schema"), lambda part: part.update(maximum=100), "query parameter limit: maximum"),
        ((*POST, "parameters", 0, "schema"), lambda part: part.update(type="boolean"), "no longer of the type integer"),
        (POST, lambda part: part.pop("requestBody"), "request body: removed"),
        ((*POST, "requestBody"), lambda part: part.update(required=True), "request body: required"),
        (SENT, lambda part: part["properties"].pop("size"), "request body/size: removed"),
        (SENT, lambda part: part["required"].append("size"), "request body/size: required"),
        (SENT, lambda part: part["properties"]["name"].update(maxLength=10), "request body/name: maxLength 10"),
        (SENT, lambda part: part["properties"]["name"].update(pattern="^a"), "request body/name: pattern ^a"),
        (SENT, lambda part: part["properties"]["size"]["enum"].remove("large"), '"large" is no longer possible'),
        (SENT, lambda part: part["properties"]["note"]["anyOf"].pop(), "null is not possible any more"),
        (SENT, lambda part: part.update(additionalProperties=False), "unknown fields are refused"),
        ((*POST, "responses"), lambda part: part.pop("409"), "response 409: removed"),
        ((*POST, "responses", "201"), lambda part: part["headers"].clear(), "response 201, header Location: removed"),
        ((*POST, "responses", "201"), lambda part: part["content"].clear(), "response 201, application/json: removed"),
        (THING, lambda part: part["properties"].pop("id"), "response 201/id: removed"),
        (THING, lambda part: part["required"].remove("id"), "response 201/id: may be missing"),
        (THING, lambda part: part["properties"]["id"].update(type=["string", "null"]), "may be of the type null"),
        (THING, lambda part: part["properties"]["status"]["enum"].append("lost"), '"lost" is now possible'),
        (THING, lambda part: part["properties"]["status"]["enum"].remove("old"), '"old" is no longer possible'),
        (POST, lambda part: part["security"][0].update(bearer=["admin"]), "needs the role admin"),
    ],
)
def test_an_incompatible_change_is_found(
    place: tuple[str | int, ...], change: Callable[[Any], Any], sentence: str
) -> None:
    found = incompatible_changes(BEFORE, changed(place, change))
    assert any(sentence in each for each in found), found
    assert all(each.startswith("POST /things: ") for each in found)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (("paths",), lambda part: part.update({"/more": {"get": {"responses": {}}}})),
        (POST, lambda part: part["parameters"].append({"name": "more", "in": "query", "schema": {}})),
        ((*POST, "parameters", 0, "schema"), lambda part: part.update(maximum=1000)),
        ((*POST, "parameters", 0, "schema"), lambda part: part.update(type="number")),
        (SENT, lambda part: part["properties"].update(more={"type": "string"})),
        (SENT, lambda part: part["required"].clear()),
        (SENT, lambda part: part["properties"]["size"]["enum"].append("huge")),
        (SENT, lambda part: part["properties"]["name"].pop("maxLength")),
        ((*POST, "responses"), lambda part: part.update({"422": {"description": "Wrong"}})),
        (THING, lambda part: part["properties"].update(more={"type": "string"})),
        (THING, lambda part: part["required"].append("parts")),
        (THING, lambda part: part["properties"]["kind"]["anyOf"].insert(0, {"const": "b"})),
        (POST, lambda part: part["security"][0].update(bearer=["viewer"])),
    ],
)
def test_a_compatible_change_is_none(place: tuple[str | int, ...], change: Callable[[Any], Any]) -> None:
    assert incompatible_changes(BEFORE, changed(place, change)) == []
