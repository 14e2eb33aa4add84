"""One declaration of an operation defines its route, its validation and its entry in the OpenAPI document.

    @operation("POST", "/runs", role="editor", summary="Create a run", status=201)
    async def create_run(request: web.Request, body: NewRunIn) -> JsonResponse[RunOut]: ...

The parameters named ``path``, ``query`` and ``body`` receive pydantic models; the response's model is the type argument
of ``JsonResponse``. The annotations are read once, when the module is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from types import MappingProxyType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from aiohttp import web
from pydantic import BaseModel

from api.auth.actors import require
from api.operations.headers import Header
from api.operations.inputs import read_body, read_path, read_query
from vm_webapp.access.roles import Role

PREFIX = "/api/v2"
NOTHING: Mapping[Any, Any] = MappingProxyType({})

Out = TypeVar("Out", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class JsonResponse(Generic[Out]):
    """A successful response: the body's model, the headers, and a status if it is not the declared one."""

    body: Out
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None


Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a request's path, query and body; None for a part that the operation does not have."""

    path: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One declared operation.

    Attributes:
        name: its ``operationId`` in the OpenAPI document.
        description: what the documentation says beside the summary.
        tag: the group of operations that it belongs to.
        prefix: what stands before its path: that of the API, or nothing.
        also: additional statuses with the declared response body; 204 and 304 have none.
        meanings: what a status says, where its name does not.
        errors: statuses of its problems, in addition to those that follow from its path, its body, or apply to all.
        role: the role that a caller needs; None if it needs no credentials.
        keyed: whether it is executed once per ``Idempotency-Key``.
        accepts: headers of the request that it reads.
        returns: headers of a successful response, beside those that every operation has.
        alternatives: other media types of the response, which the caller asks for by ``Accept``: their schemas.
        response_model: the model of the response body, None if the handler builds its own response.
    """

    name: str
    method: str
    path: str
    summary: str
    description: str
    tag: str
    prefix: str
    status: int
    also: tuple[int, ...]
    meanings: Mapping[int, str]
    errors: tuple[int, ...]
    role: Role | None
    keyed: bool
    media_type: str
    accepts: tuple[Header, ...]
    returns: tuple[Header, ...]
    alternatives: Mapping[str, dict[str, Any]]
    function: Function
    models: Models
    response_model: type[BaseModel] | None

    @property
    def full_path(self) -> str:
        """The path from the root."""
        return self.prefix + self.path

    @property
    def public(self) -> bool:
        """Whether it needs no credentials."""
        return self.role is None

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Check the caller's role, validate the request, call the function and return its response."""
        if self.role is not None:
            require(request, self.role)
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
        assert isinstance(result, JsonResponse)
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
    role: Role | None,
    summary: str,
    name: str | None = None,
    models: Models | None = None,
    response_model: type[BaseModel] | None = None,
    status: int = 200,
    also: tuple[int, ...] = (),
    errors: tuple[int, ...] = (),
    keyed: bool = False,
    media_type: str = "application/json",
    tag: str | None = None,
    prefix: str = PREFIX,
    meanings: Mapping[int, str] = NOTHING,
    accepts: tuple[Header, ...] = (),
    returns: tuple[Header, ...] = (),
    alternatives: Mapping[str, dict[str, Any]] = NOTHING,
) -> Callable[[Function], Operation]:
    """Declare an operation.

    Args:
        method: the HTTP method.
        path: the path below the prefix, with the ``{fields}`` of the path model.
        role: the role that a caller needs; None if it needs no credentials.
        summary: one line for the documentation.
        name: the ``operationId``; by default the function's name.
        models: the models of the request; by default those of the function's annotations.
        response_model: the model of the response body; by default that of the function's annotations.
        status: the status of success.
        also: additional statuses with the same response body.
        errors: statuses of problems that only this operation has.
        keyed: whether it is executed once per ``Idempotency-Key``.
        media_type: the media type of the response, if it is not JSON.
        tag: the group of operations that it belongs to; by default the path's first part.
        prefix: what stands before the path.
        meanings: what a status says, where its name does not.
        accepts: headers of the request that it reads.
        returns: headers of a successful response, beside those that every operation has.
        alternatives: other media types of the response, with their schemas.
    """

    def declare(function: Function) -> Operation:
        # Annotations are text under "from __future__ import annotations". Those of a function whose models are made at
        # run time name no types at all, so they are not evaluated.
        hints = {} if models and response_model else get_type_hints(function)
        return Operation(
            name=name or function.__name__,
            method=method,
            path=path,
            summary=summary,
            description=cleandoc(function.__doc__ or ""),
            tag=tag or path.split("/")[1],
            status=status,
            also=also,
            prefix=prefix,
            meanings=meanings,
            errors=errors,
            role=role,
            keyed=keyed,
            media_type=media_type,
            accepts=accepts,
            returns=returns,
            alternatives=alternatives,
            function=function,
            models=models or Models(hints.get("path"), hints.get("query"), hints.get("body")),
            response_model=response_model or _response_model_of(hints.get("return")),
        )

    return declare


def _response_model_of(returned: Any) -> type[BaseModel] | None:
    """Return the type argument of ``JsonResponse``, which may be one member of a union."""
    for each in (returned, *get_args(returned)):
        if get_origin(each) is JsonResponse:
            model: type[BaseModel] = get_args(each)[0]
            return model
    return None
