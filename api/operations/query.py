"""Operations that read.

    @query("/runs", PageOut[RunOut], role="viewer", summary="Runs, newest first")
    def list_runs(call: Call, query: RunsQuery) -> Page[RunRecord]: ...

The function runs on a database thread and returns plain records of the core, which the declared model turns into the
response body. Reads that are ``shared`` or ``joint`` begin after each request that they answer has arrived.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

from aiohttp import web
from pydantic import BaseModel

from api.operations.call import Call
from api.operations.headers import Header
from api.operations.models import Output
from api.operations.operation import NOTHING, Models, Operation, operation
from vm_webapp.access.roles import Role

# A read that takes longer is no reason for others to wait: they take another thread.
PATIENCE_SECONDS = 0.02

Query = Callable[..., Any]
Asked = tuple[Call, dict[str, BaseModel]]
JointRead = Callable[[Sequence[dict[str, Any]]], Sequence[Any]]
Headers = Callable[[Any], dict[str, str]]
Respond = Callable[[web.Request, Any], web.Response]


class Found(NamedTuple):
    """The result of a read: the core's records, and the JSON of the declared model."""

    records: Any
    text: str


# Receives the request, a function that reads and may be called more than once, and the arguments of the query.
Around = Callable[..., Awaitable[Found | web.StreamResponse]]


def query(
    path: str,
    response_model: type[Output] | None,
    *,
    role: Role,
    summary: str,
    name: str | None = None,
    models: Models | None = None,
    headers: Headers | None = None,
    around: Around | None = None,
    respond: Respond | None = None,
    also: tuple[int, ...] = (),
    media_type: str = "application/json",
    tag: str | None = None,
    meanings: Mapping[int, str] = NOTHING,
    accepts: tuple[Header, ...] = (),
    returns: tuple[Header, ...] = (),
    alternatives: Mapping[str, dict[str, Any]] = NOTHING,
    shared: bool = False,
    joint: JointRead | None = None,
) -> Callable[[Query], Operation]:
    """Declare an operation that reads.

    Args:
        path: as for ``operation``.
        response_model: the model of the response body; None if ``respond`` builds the response.
        role: as for ``operation``.
        summary: as for ``operation``.
        name: as for ``operation``.
        models: as for ``operation``.
        headers: returns the headers of the response for the records.
        around: called on the event loop in place of the read: it waits before it reads, or returns its own response.
        respond: builds the response from the records, if it is not the model's JSON.
        also: as for ``operation``.
        media_type: as for ``operation``.
        tag: as for ``operation``.
        meanings: as for ``operation``.
        accepts: as for ``operation``.
        returns: as for ``operation``.
        alternatives: as for ``operation``.
        shared: requests with equal arguments that arrive while such a one is read are answered by one further read,
            whoever sends them: the function uses nothing else of the call than its services.
        joint: reads for all requests together that arrive while others are read: gets the arguments of each, and
            returns its records, or an error, in the same order.
    """

    def declare(function: Query) -> Operation:
        def find(call: Call, arguments: dict[str, BaseModel]) -> Found:
            return written(function(call, **arguments), call)

        def written(records: Any, call: Call) -> Found:
            # Serialised on the thread as well: a page of 200 runs would block the event loop.
            if response_model is None:
                return Found(records, "")
            return Found(records, response_model.json_of(records, call.context))

        def find_shared(asked: Sequence[Asked]) -> list[Found]:
            return [find(*asked[0])] * len(asked)

        def find_jointly(asked: Sequence[Asked]) -> list[Found | Exception]:
            assert joint is not None
            found = zip(asked, joint([arguments for _, arguments in asked]), strict=True)
            return [each if isinstance(each, Exception) else written(each, call) for (call, _), each in found]

        def reading(call: Call, arguments: dict[str, BaseModel]) -> Awaitable[Found]:
            ask = partial(call.services.joint_calls.ask, patience_seconds=PATIENCE_SECONDS)
            if joint is not None:
                return ask(find_jointly, (call, arguments))
            if shared:
                kind = tuple(model.model_dump_json() for model in arguments.values())
                return ask(find_shared, (call, arguments), kind=kind)
            return call.services.threads.run(partial(find, call, arguments))

        @wraps(function)
        async def run(request: web.Request, **arguments: BaseModel) -> web.StreamResponse:
            read = partial(reading, Call.of(request), arguments)
            found = await (around(request, read, **arguments) if around else read())
            if isinstance(found, web.StreamResponse):
                return found
            if respond is not None:
                return respond(request, found.records)
            added = headers(found.records) if headers else None
            return web.Response(text=found.text, content_type="application/json", headers=added)

        return operation(
            "GET",
            path,
            role=role,
            summary=summary,
            name=name,
            models=models,
            response_model=response_model,
            also=also,
            media_type=media_type,
            tag=tag,
            meanings=meanings,
            accepts=accepts,
            returns=returns,
            alternatives=alternatives,
        )(run)

    return declare
