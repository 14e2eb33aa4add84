"""Operations that read.

    @query("/runs", PageOut[RunOut], summary="Runs, newest first")
    def list_runs(call: Call, query: RunsQuery) -> Page[RunRecord]: ...

The function runs on a database thread and returns plain records of the core; the declared model makes the answer of
them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, NamedTuple

from aiohttp import web
from pydantic import BaseModel

from api.operations.call import Call
from api.operations.models import Output
from api.operations.operation import Models, Operation, operation

Query = Callable[..., Any]
Headers = Callable[[Any], dict[str, str]]
Respond = Callable[[web.Request, Any], web.Response]


class Found(NamedTuple):
    """What was read: the core's records, and the JSON that the declared model makes of them."""

    records: Any
    text: str


# Called with the request, a function that reads and may be called more than once, and the query's own arguments.
Around = Callable[..., Awaitable[Found | web.StreamResponse]]


def query(
    path: str,
    answer: type[Output] | None,
    *,
    summary: str,
    name: str | None = None,
    models: Models | None = None,
    headers: Headers | None = None,
    around: Around | None = None,
    respond: Respond | None = None,
    also: tuple[int, ...] = (),
    media_type: str = "application/json",
) -> Callable[[Query], Operation]:
    """Declare an operation that reads.

    Args:
        path: as for ``operation``.
        answer: the model of the answer; None where ``respond`` makes it.
        summary: as for ``operation``.
        name: as for ``operation``.
        models: as for ``operation``.
        headers: returns headers of the answer for what was read.
        around: stands around the reading, on the event loop: it waits, or returns an answer of its own.
        respond: makes the answer of what was read, where it is not the model's JSON.
        also: as for ``operation``.
        media_type: as for ``operation``.
    """

    def declare(function: Query) -> Operation:
        def find(call: Call, arguments: dict[str, BaseModel]) -> Found:
            records = function(call, **arguments)
            return Found(records, answer.model_validate(records).model_dump_json() if answer else "")

        @wraps(function)
        async def run(request: web.Request, **arguments: BaseModel) -> web.StreamResponse:
            call = Call.of(request)
            read = partial(call.services.threads.run, partial(find, call, arguments))
            found = await (around(request, read, **arguments) if around else read())
            if isinstance(found, web.StreamResponse):
                return found
            if respond is not None:
                return respond(request, found.records)
            told = headers(found.records) if headers else None
            return web.Response(text=found.text, content_type="application/json", headers=told)

        return operation(
            "GET", path, summary=summary, name=name, models=models, answer=answer, also=also, media_type=media_type
        )(run)

    return declare
