"""Compares two OpenAPI documents: what a client of the old one may no longer rely on with the new one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from vm_webapp.access.roles import ROLES

Document = Mapping[str, Any]
Direction = Literal["request", "response"]
EVERY_TYPE = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
AT_MOST = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
AT_LEAST = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
EXACT = ("pattern", "format", "multipleOf", "uniqueItems")


def incompatible_changes(old: Document, new: Document) -> list[str]:
    """Return a sentence for each incompatible change, in the order of the old document.

    Incompatible is what a client that was right before may stumble over: an operation, a parameter, a field, a status,
    a media type or a value that is gone; a narrower type of what it sends, or a wider one of what it gets; something
    that it has to send now; a higher role.
    """
    return list(dict.fromkeys(_of_operations(old, new)))


def _of_operations(old: Document, new: Document) -> Iterator[str]:
    compared = _Comparison(old, new)
    for path, methods in old["paths"].items():
        for method, before in methods.items():
            name = f"{method.upper()} {path}"
            after = new["paths"].get(path, {}).get(method)
            if after is None:
                yield f"{name}: removed"
            else:
                yield from (f"{name}: {change}" for change in compared.of_operation(before, after))


class _Comparison:
    """Compares parts of two documents, in which it follows references."""

    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._within: set[tuple[int, int]] = set()

    def of_operation(self, old: Document, new: Document) -> Iterator[str]:
        yield from self._parameters(old, new)
        yield from self._body(old.get("requestBody"), new.get("requestBody"))
        yield from self._responses(old["responses"], new["responses"])
        before, after = _role(old), _role(new)
        if after > before:
            yield f"needs the role {ROLES[after]}"

    def _parameters(self, old: Document, new: Document) -> Iterator[str]:
        before, after = self._by_name(self._old, old), self._by_name(self._new, new)
        for name, each in before.items():
            if name not in after:
                yield f"{name}: removed"
            else:
                yield from self._schema(each["schema"], after[name]["schema"], "request", name)
        for name, each in after.items():
            if each.get("required") and not before.get(name, {}).get("required"):
                yield f"{name}: required"

    def _by_name(self, document: Document, operation: Document) -> dict[str, Any]:
        found = [_resolved(document, each) for each in operation.get("parameters", ())]
        return {f"{each['in']} parameter {each['name']}": each for each in found}

    def _body(self, old: Document | None, new: Document | None) -> Iterator[str]:
        if old is None:
            if new is not None and new.get("required"):
                yield "request body: required"
            return
        if new is None:
            yield "request body: removed"
            return
        if new.get("required") and not old.get("required"):
            yield "request body: required"
        yield from self._content(old["content"], new["content"], "request", "request body")

    def _responses(self, old: Document, new: Document) -> Iterator[str]:
        for status, response in old.items():
            if status not in new:
                yield f"response {status}: removed"
                continue
            before, after = _resolved(self._old, response), _resolved(self._new, new[status])
            for name in before.get("headers", {}):
                if name not in after.get("headers", {}):
                    yield f"response {status}, header {name}: removed"
            yield from self._content(
                before.get("content", {}), after.get("content", {}), "response", f"response {status}"
            )

    def _content(self, old: Document, new: Document, direction: Direction, place: str) -> Iterator[str]:
        for media_type, before in old.items():
            if media_type not in new:
                yield f"{place}, {media_type}: removed"
            else:
                schema = new[media_type].get("schema", {})
                yield from self._schema(before.get("schema", {}), schema, direction, place)

    def _schema(self, old: Document, new: Document, direction: Direction, place: str) -> Iterator[str]:
        before, after = _resolved(self._old, old), _resolved(self._new, new)
        pair = (id(before), id(after))
        if pair in self._within:  # a schema that refers to itself
            return
        self._within.add(pair)
        try:
            yield from self._one_of_several(before, after, direction, place)
        finally:
            self._within.discard(pair)

    def _one_of_several(self, old: Document, new: Document, direction: Direction, place: str) -> Iterator[str]:
        before, after = self._variants(self._old, old), self._variants(self._new, new)
        null = {"type": "null"}
        if direction == "request" and null in before and null not in after:
            yield f"{place}: null is not possible any more"
        if direction == "response" and null in after and null not in before:
            yield f"{place}: may be null"
        before, after = [each for each in before if each != null], [each for each in after if each != null]
        if len(before) == len(after) == 1:
            yield from self._values(before[0], after[0], direction, place)
            return
        # What a client sent must still fit somewhere; what it gets must have fitted somewhere.
        if direction == "request":
            unfit = [each for each in before if all(self._differs(each, one, direction) for one in after)]
        else:
            unfit = [each for each in after if all(self._differs(one, each, direction) for one in before)]
        for each in unfit:
            yield f"{place}: {_brief(each)} is {'no longer' if direction == 'request' else 'now'} possible"

    def _differs(self, old: Document, new: Document, direction: Direction) -> bool:
        return bool(list(self._schema(old, new, direction, "")))

    def _variants(self, document: Document, schema: Document) -> list[Document]:
        for keyword in ("anyOf", "oneOf"):
            # With properties beside it, anyOf says which of them are needed, not of which kind the value is.
            if keyword in schema and "properties" not in schema:
                found = []
                for each in schema[keyword]:
                    found += self._variants(document, _resolved(document, each))
                return found
        return [schema]

    def _values(self, old: Document, new: Document, direction: Direction, place: str) -> Iterator[str]:
        before, after = _types(old), _types(new)
        if direction == "request" and not before <= after:
            yield f"{place}: no longer of the type {' or '.join(sorted(before - after))}"
        if direction == "response" and not after <= before:
            yield f"{place}: may be of the type {' or '.join(sorted(after - before))}"
        yield from _changed_choice(old, new, direction, place)
        if direction == "request":
            yield from _narrower(old, new, place)
        yield from self._fields(old, new, direction, place)
        for part in ("items", "additionalProperties"):
            if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
                yield from self._schema(old[part], new[part], direction, f"{place}/*")

    def _fields(self, old: Document, new: Document, direction: Direction, place: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name not in after:
                yield f"{place}/{name}: removed"
            else:
                yield from self._schema(schema, after[name], direction, f"{place}/{name}")
        needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
        if direction == "request":
            yield from (f"{place}/{name}: required" for name in sorted(needed_after - needed_before))
        else:
            missing = sorted((needed_before - needed_after) & after.keys())
            yield from (f"{place}/{name}: may be missing" for name in missing)


def _changed_choice(old: Document, new: Document, direction: Direction, place: str) -> Iterator[str]:
    before, after = _choices(old), _choices(new)
    if before is not None and (after is not None or direction == "response"):
        gone = [each for each in before if after is not None and each not in after]
        yield from (f"{place}: {each} is no longer possible" for each in gone)
    elif before is None and after is not None and direction == "request":
        yield f"{place}: only {', '.join(after)} is possible"
    if direction == "response" and before is not None:
        added = [each for each in after or () if each not in before] if after is not None else ["any value"]
        yield from (f"{place}: {each} is now possible" for each in added)


def _narrower(old: Document, new: Document, place: str) -> Iterator[str]:
    for keyword in AT_MOST:
        if keyword in new and new[keyword] < old.get(keyword, float("inf")):
            yield f"{place}: {keyword} {new[keyword]}"
    for keyword in AT_LEAST:
        if keyword in new and new[keyword] > old.get(keyword, float("-inf")):
            yield f"{place}: {keyword} {new[keyword]}"
    for keyword in EXACT:
        if keyword in new and new[keyword] != old.get(keyword):
            yield f"{place}: {keyword} {new[keyword]}"
    if old.get("additionalProperties", True) is not False and new.get("additionalProperties", True) is False:
        yield f"{place}: unknown fields are refused"


def _choices(schema: Document) -> list[str] | None:
    if "const" in schema:
        return [json.dumps(schema["const"])]
    return [json.dumps(each) for each in schema["enum"]] if "enum" in schema else None


def _types(schema: Document) -> frozenset[str]:
    given = schema.get("type")
    if given is None:
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        return EVERY_TYPE if values is None else frozenset(_type_of(each) for each in values)
    types = frozenset({given} if isinstance(given, str) else given)
    return types | {"integer"} if "number" in types else types


def _type_of(value: Any) -> str:
    return {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}[type(value)]


def _resolved(document: Document, part: Any) -> Any:
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/").replace("~0", "~")]
        part = found
    return part


def _role(operation: Document) -> int:
    """Return the place of the role that an operation needs, -1 if it needs none."""
    needed = [role for each in operation.get("security", ()) for roles in each.values() for role in roles]
    return ROLES.index(needed[0]) if needed else -1


def _brief(schema: Document) -> str:
    choices = _choices(schema)
    return ", ".join(choices) if choices else " or ".join(sorted(_types(schema)))
