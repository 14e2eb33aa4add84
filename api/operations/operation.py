"""One declaration of an operation drives its route, its validation and its entry in the OpenAPI document.

    @operation("POST", "/runs", summary="Create a run", status=201)
    async def create_run(request: web.Request, body: NewRunIn) -> Answer[RunOut]: ...

The parameters named ``path``, ``query`` and ``body`` carry pydantic models; the answer's model is the type inside
``Answer``. They are looked up once, when the module is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from aiohttp import web
from pydantic import BaseModel

from api.operations.inputs import read_body, read_path, read_query

PREFIX = "/api/v2"

Out = TypeVar("Out", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Out]):
    """A successful answer: the model, its headers, and a status where it is not the declared one."""

    body: Out
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None


Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Models:
    """What a request is read into; None where there is nothing to read."""

    path: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One declared operation.

    Attributes:
        name: what the documentation calls it.
        also: further statuses that carry the declared answer; 304 carries nothing.
        errors: statuses of its problems, beside those that its path, its body and every operation bring along.
        answer: the model answered, None where the handler makes its own response.
        public: whether it answers without credentials.
        keyed: whether it is done once under an ``Idempotency-Key``.
    """

    name: str
    method: str
    path: str
    summary: str
    status: int
    also: tuple[int, ...]
    errors: tuple[int, ...]
    public: bool
    keyed: bool
    media_type: str
    function: Function
    models: Models
    answer: type[BaseModel] | None

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Validate the request, call the function and write its answer."""
        arguments: dict[str, BaseModel] = {}
        if self.models.path is not None:
            arguments["path"] = read_path(self.models.path, request)
        query = read_query(self.models.query, request)
        if query is not None:
            arguments["query"] = query
        if self.models.body is not None:
            arguments["body"] = await read_body(self.models.body, request)
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
    name: str | None = None,
    models: Models | None = None,
    answer: type[BaseModel] | None = None,
    status: int = 200,
    also: tuple[int, ...] = (),
    errors: tuple[int, ...] = (),
    public: bool = False,
    keyed: bool = False,
    media_type: str = "application/json",
) -> Callable[[Function], Operation]:
    """Declare an operation.

    Args:
        method: the HTTP method.
        path: below ``/api/v2``, with ``{names}`` of the path model.
        summary: one line for the documentation.
        name: what the documentation calls it; the function's by default.
        models: what the request is read into; what the function's annotations say by default.
        answer: the model answered; what the function's annotations say by default.
        status: the status of success.
        also: further statuses with the same answer.
        errors: statuses of problems that only this operation has.
        public: whether it answers without credentials.
        keyed: whether it is done once under an ``Idempotency-Key``.
        media_type: of the answer, where it is not JSON.
    """

    def declare(function: Function) -> Operation:
        hints = {} if models and answer else get_type_hints(function)
        return Operation(
            name=name or function.__name__,
            method=method,
            path=path,
            summary=summary,
            status=status,
            also=also,
            errors=errors,
            public=public,
            keyed=keyed,
            media_type=media_type,
            function=function,
            models=models or Models(hints.get("path"), hints.get("query"), hints.get("body")),
            answer=answer or _answer_model(hints.get("return")),
        )

    return declare


def _answer_model(returned: Any) -> type[BaseModel] | None:
    """Return the model inside ``Answer``, also where the function may make its own response instead."""
    for each in (returned, *get_args(returned)):
        if get_origin(each) is Answer:
            model: type[BaseModel] = get_args(each)[0]
            return model
    return None
