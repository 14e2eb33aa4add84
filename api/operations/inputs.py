"""Reads the path, query and body of a request into models, and reports every wrong value."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from api.http.bodies import MalformedDocument, parse_document, pointer_of
from api.http.problems import FieldProblem, RequestError
from vm_webapp.text import UNSTORABLE, is_storable

BODY_SECONDS = 30.0
ENCODINGS = frozenset({"identity", "gzip", "deflate"})

In = TypeVar("In", bound=BaseModel)


def read_path(model: type[In], request: web.Request) -> In:
    """Return the path's parameters.

    Raises:
        RequestError: 404 for a malformed id, as for an id that does not exist.
    """
    values = dict(request.match_info)
    try:
        # Percent-encoding can smuggle in what PostgreSQL's text type refuses, such as a NUL byte.
        if all(map(is_storable, values.values())):
            return model.model_validate(values)
    except ValidationError:
        pass
    raise RequestError(404, "not_found", f"there is nothing at {request.path}")


def read_query(model: type[In] | None, request: web.Request) -> In | None:
    """Return the query's parameters, None if ``model`` is None.

    Raises:
        RequestError: 422 with every parameter that is unknown, repeated or wrong.
    """
    if model is None and not request.query_string:
        return None
    # An operation without parameters checks its query as well: a parameter that it does not know may be a misspelt one.
    known = {field.alias or name for name, field in model.model_fields.items()} if model else set()
    names = list(dict.fromkeys(request.query))
    wrong = {name: what for name in names if (what := _parameter_complaint(request, name, name in known))}
    if model is not None:
        try:
            return_value = model.model_validate({name: request.query[name] for name in names if name not in wrong})
        except ValidationError as error:
            wrong |= {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
    if wrong:
        errors = [FieldProblem(parameter=name, message=message) for name, message in wrong.items()]
        raise RequestError(422, "invalid_parameter", _summary(errors), errors=errors)
    return return_value if model is not None else None


def _parameter_complaint(request: web.Request, name: str, known: bool) -> str | None:
    values = request.query.getall(name)
    if not all(map(is_storable, (name, *values))):
        return UNSTORABLE
    if not known:
        return "there is no such parameter"
    return "given more than once" if len(values) > 1 else None


async def read_body(model: type[In], request: web.Request) -> In:
    """Return the JSON body. The validators' context is the request's ``config_dict``, which holds the services.

    Raises:
        RequestError: 400 for a body that is not JSON, 408 for one that does not arrive, 415 for a content type other
            than JSON and for an unknown compression, 422 with a JSON pointer to every wrong value.
    """
    if not request.body_exists and may_be_left_out(model):
        return model()
    if request.content_type != "application/json":
        raise RequestError(415, "unsupported_media_type", "the body must be JSON: Content-Type: application/json")
    raw = await read_bytes(request)
    if not raw.strip():
        raise RequestError(400, "empty_body", "the body is empty; a JSON object is expected")
    try:
        document = parse_document(raw)
    except MalformedDocument as error:
        raise RequestError(400, "malformed_json", f"the body is not JSON: {error}") from None
    if not isinstance(document.value, dict):
        raise RequestError(422, "invalid_input", "the body must be a JSON object")
    errors = [FieldProblem(pointer=pointer_of(place), message=what) for place, what in document.complaints]
    if not errors:
        try:
            # From the bytes rather than from the parsed document: in strict mode pydantic accepts a UUID or a time as
            # text only if it parses the JSON itself.
            return model.model_validate_json(raw, strict=True, context=request.config_dict)
        except ValidationError as error:
            errors = [FieldProblem(pointer=pointer_of(each["loc"]), message=each["msg"]) for each in error.errors()]
    raise RequestError(422, "invalid_input", _summary(errors), errors=errors)


def may_be_left_out(model: type[BaseModel]) -> bool:
    """Return whether a request may have no body at all: none of its fields is required."""
    return not any(field.is_required() for field in model.model_fields.values())


async def read_bytes(request: web.Request) -> bytes:
    """Return the body.

    Raises:
        RequestError: 400 for one that breaks off, 408 for one that does not arrive, 415 for an unknown compression.
    """
    if request.headers.get("Content-Encoding", "identity").lower() not in ENCODINGS:
        # aiohttp would pass on what it cannot decode as it came.
        detail = "the body may be compressed by gzip or deflate, once: Content-Encoding: gzip"
        raise RequestError(415, "unsupported_media_type", detail)
    # Most bodies come with their headers; only for others a timer is set.
    limit = None if request.content.is_eof() else BODY_SECONDS
    try:
        async with asyncio.timeout(limit):
            return await request.read()
    except TimeoutError:
        # aiohttp itself waits for ever, both for a slow client and after a chunk that broke off half-way.
        raise RequestError(408, "body_timeout", f"the body did not come within {BODY_SECONDS:g} s") from None
    except web.RequestPayloadError:
        raise RequestError(400, "unreadable_body", "the body breaks off or is not encoded as it says") from None


def _summary(errors: list[FieldProblem]) -> str:
    first, more = errors[0], f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{first.pointer or first.parameter or 'the body'}: {first.message}{more}"
