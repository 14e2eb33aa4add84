"""One declaration of an operation drives its route, its validation and its entry in the OpenAPI document.

    @operation("POST", "/runs", summary="Create a run", status=201)
    async def create_run(request: web.Request, body: NewRunIn) -> Answer[RunOut]: ...

The parameters named ``path``, ``query`` and ``body`` carry pydantic models; the answer's model is the type inside
``Answer``. They are looked up once, when the module is imported.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from api.problems import FieldProblem, RequestError

Out = TypeVar("Out", bound=BaseModel)
NO_VALUE = object()


class Input(BaseModel):
    """Base of everything that a caller sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """Base of everything that is answered; reads the core's records."""

    model_config = ConfigDict(from_attributes=True)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Out]):
    """A successful answer: the model, its headers, and a status where it is not the declared one."""

    body: Out
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None


Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One declared operation.

    Attributes:
        answer: the model answered, None where the handler makes its own response.
        errors: statuses of the problems it may answer, beside those that every operation may.
    """

    method: str
    path: str
    summary: str
    status: int
    errors: tuple[int, ...]
    function: Function
    path_model: type[BaseModel] | None
    query_model: type[BaseModel] | None
    body_model: type[BaseModel] | None
    answer: type[BaseModel] | None
    media_type: str

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Validate the request, call the function and write its answer."""
        arguments: dict[str, BaseModel] = {}
        if self.path_model is not None:
            arguments["path"] = _path(self.path_model, request)
        query = _query(self.query_model, request)
        if query is not None:
            arguments["query"] = query
        if self.body_model is not None:
            arguments["body"] = await _body(self.body_model, request)
        result = await self.function(request, **arguments)
        if isinstance(result, web.StreamResponse):
            return result
        assert isinstance(result, Answer)
        return web.Response(
            text=result.body.model_dump_json(),
            status=result.status or self.status,
            content_type="application/json",
            headers=result.headers,
        )


def operation(
    method: str,
    path: str,
    *,
    summary: str,
    status: int = 200,
    errors: tuple[int, ...] = (),
    media_type: str = "application/json",
) -> Callable[[Function], Operation]:
    """Declare an operation.

    Args:
        method: the HTTP method.
        path: below ``/api/v2``, with ``{names}`` of the path model.
        summary: one line for the documentation.
        status: the status of success.
        errors: statuses of its problems.
        media_type: of the answer, where it is not JSON.
    """

    def declare(function: Function) -> Operation:
        hints = get_type_hints(function)
        returned = hints.get("return")
        answer = get_args(returned)[0] if get_origin(returned) is Answer else None
        return Operation(
            method,
            path,
            summary,
            status,
            errors,
            function,
            hints.get("path"),
            hints.get("query"),
            hints.get("body"),
            answer,
            media_type,
        )

    return declare


def _path(model: type[BaseModel], request: web.Request) -> BaseModel:
    values = dict(request.match_info)
    if any(_unstorable(value) for value in values.values()):
        raise RequestError(404, "not_found", "there is nothing of that name")
    try:
        return model.model_validate(values)
    except ValidationError:
        # An id that cannot be one is an id that nothing has.
        raise RequestError(404, "not_found", f"there is nothing at {request.path}") from None


def _query(model: type[BaseModel] | None, request: web.Request) -> BaseModel | None:
    errors = [
        FieldProblem(parameter=name, message="given more than once")
        for name in dict.fromkeys(request.query)
        if len(request.query.getall(name)) > 1
    ]
    errors += [
        FieldProblem(parameter=name, message="holds a character that cannot be stored")
        for name, value in request.query.items()
        if _unstorable(name + value)
    ]
    known = model.model_fields if model else {}
    errors += [
        FieldProblem(parameter=name, message="there is no such parameter")
        for name in dict.fromkeys(request.query)
        if name not in known
    ]
    found: BaseModel | None = None
    if model is not None and not errors:
        try:
            found = model.model_validate(dict(request.query))
        except ValidationError as error:
            errors += [
                FieldProblem(parameter=".".join(map(str, each["loc"])), message=each["msg"]) for each in error.errors()
            ]
    if errors:
        raise RequestError(422, "invalid_parameter", _first(errors), errors=errors)
    return found


async def _body(model: type[BaseModel], request: web.Request) -> BaseModel:
    if request.content_type != "application/json":
        raise RequestError(415, "unsupported_media_type", "the body must be JSON: Content-Type: application/json")
    raw = await request.read()
    if not raw.strip():
        raise RequestError(400, "empty_body", "the body is empty; a JSON object is expected")
    try:
        document = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RequestError(400, "malformed_json", "the body is not JSON") from None
    if not isinstance(document, dict):
        raise RequestError(422, "invalid_input", "the body must be a JSON object")
    errors = [
        FieldProblem(pointer=pointer, message="holds a character that cannot be stored") for pointer in _bad(document)
    ]
    if not errors:
        try:
            return model.model_validate_json(raw, strict=True)
        except ValidationError as error:
            errors = [FieldProblem(pointer=_pointer(each["loc"]), message=each["msg"]) for each in error.errors()]
    raise RequestError(422, "invalid_input", _first(errors), errors=errors)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _bad(value: Any, pointer: str = "") -> list[str]:
    """Return the pointers of strings that PostgreSQL could not store."""
    if isinstance(value, str):
        return [pointer] if _unstorable(value) else []
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _bad(item, f"{pointer}/{index}")]
    if isinstance(value, dict):
        here = [pointer or "/" for key in value if _unstorable(key)]
        return here + [found for key, item in value.items() for found in _bad(item, f"{pointer}/{key}")]
    return []


def _unstorable(text: str) -> bool:
    return "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)


def _first(errors: list[FieldProblem]) -> str:
    first, more = errors[0], f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{first.pointer or first.parameter}: {first.message}{more}"
