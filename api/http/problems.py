"""Errors as ``application/problem+json`` (RFC 9457): stable types, all wrong values at once, no internal messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict

from api.http.request_ids import request_id
from api.http.shown_paths import shown_path
from vm_webapp.errors import DatabaseBusy, InvalidInput, VMError
from vm_webapp.idempotency import KeyLocked
from vm_webapp.text import without_surrogates

log = logging.getLogger("api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PROBLEM_TYPE = "application/problem+json"
INTERNAL = "something went wrong on our side; the log has it under this request_id"
# The core's messages for these errors name hosts and users. They go to the log, never to a caller.
UNAVAILABLE = {
    "database_unavailable": "the database does not respond; try again in a moment",
    "database_disk_full": "the database's disk is full: nothing can be stored until an operator has freed space",
    "no_answer_in_time": "the database took too long; whether anything was written is unknown",
    "overloaded": "too many requests at once; try again in a moment",
}
LOCKED_KEY = "a lock on this Idempotency-Key holds"
BUSY = "the database responds, but a lock or a slow statement holds this up; try again in a moment"
# Returns which locks hold requests up, such as ``a lock on the table runs holds``, empty if none is known. The argument
# is whether a lock counts that only some requests wait for.
HELD_UP: web.AppKey[Callable[[bool], str]] = web.AppKey("held_up")
KNOWN = {
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this method is not possible here; Allow lists those that are"),
    413: ("body_too_large", "the body is over 1 MiB"),
    417: ("expectation_failed", "the only expectation understood is 100-continue"),
}


# Problems quote what callers sent. JSON allows half a surrogate pair as an escape, which cannot be encoded as UTF-8.
Text = Annotated[str, BeforeValidator(without_surrogates)]


class FieldProblem(BaseModel):
    """One wrong value; exactly one of ``pointer`` (into the body), ``parameter`` and ``header`` says which."""

    # This docstring and Problem's are in the OpenAPI document.

    pointer: Text | None = None
    parameter: Text | None = None
    header: Text | None = None
    message: Text


class Problem(BaseModel):
    """The body of every error; some have further members, such as ``current_sha256``."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: Text
    request_id: str
    errors: list[FieldProblem] | None = None


class RequestError(VMError):
    """A request that is refused before it reaches the core.

    Args:
        status: the HTTP status.
        code: the last part of the problem's type.
        detail: what is wrong and what would be right.
        errors: one entry for each wrong value.
        headers: additional headers of the response.
        reason: why, for the audit trail alone; by default the code.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: dict[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.http_status = status
        self.code = code
        self.reason = reason or code
        self.errors = errors
        self.headers = headers


def problem(
    request: web.Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: dict[str, str] | None = None,
    facts: Mapping[str, str | int] = MappingProxyType({}),
) -> web.Response:
    """Return a problem response; ``facts`` become additional members of the body."""
    body = Problem(
        type=f"/problems/{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id(request),
        errors=list(errors) or None,
        **facts,
    )
    return web.Response(
        body=body.model_dump_json(exclude_none=True).encode(),
        status=status,
        content_type=PROBLEM_TYPE,
        headers=headers,
    )


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error that a handler raises into a problem response."""
    try:
        return await handler(request)
    except VMError as error:
        return _from_core_error(request, error)
    except web.HTTPException as error:
        return from_aiohttp_error(request, error)
    except Exception:  # not BaseException: a client that disconnects cancels its handler
        log.exception("request.failed", extra=_facts(request))
        return problem(request, 500, "internal_error", INTERNAL)


async def refuse_expectation(request: web.Request) -> web.Response | None:
    """Handle the ``Expect`` header, which aiohttp does before any middleware runs.

    Returns:
        A 417 problem for an unknown expectation, None if the request may continue.
    """
    if request.headers["Expect"].lower() != "100-continue":
        return problem(request, 417, *KNOWN[417])
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def _from_core_error(request: web.Request, error: VMError) -> web.Response:
    status, detail = error.http_status, str(error)
    if isinstance(error, RequestError):
        return problem(request, status, error.code, detail, errors=error.errors, headers=error.headers)
    if isinstance(error, InvalidInput):
        wrong = FieldProblem(pointer=error.pointer, message=detail)
        return problem(request, status, error.code, detail, errors=[wrong])
    if status == 503:
        log.warning("request.unavailable", extra=_facts(request) | {"error": detail})
        return problem(request, 503, error.code, _public(request, error), headers=_retry_after(error))
    if status >= 500:  # the default status of a core error; its message may be internal
        log.error("request.failed", extra=_facts(request) | {"error": detail})
        return problem(request, 500, "internal_error", INTERNAL)
    return problem(request, status, error.code, detail, headers=_retry_after(error), facts=error.facts)


def _public(request: web.Request, error: VMError) -> str:
    """Return why nothing can be done just now: the lock that holds requests up, or else the kind of the error."""
    busy = isinstance(error, DatabaseBusy)
    known = BUSY if busy else UNAVAILABLE.get(error.code, "this cannot be done just now; try again in a moment")
    held_up, advice = request.config_dict.get(HELD_UP), known.partition("; ")[2]
    # Threads and connections that are all taken are consequences of a lock, too.
    cause = held_up(busy) if held_up is not None and advice else ""
    if isinstance(error, KeyLocked):
        cause = LOCKED_KEY
    return f"{cause} this up; {advice}" if cause else known


def _retry_after(error: VMError) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds else {}


def from_aiohttp_error(request: web.Request, error: web.HTTPException) -> web.Response:
    """Return the problem for an error response that aiohttp, or a handler of its kind, raises."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = {"Allow": ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))}
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=allow)
        return problem(request, 405, *KNOWN[405], headers=allow)
    return problem(request, error.status, *KNOWN.get(error.status, ("http_error", error.reason)))


def _facts(request: web.Request) -> dict[str, str]:
    resource = request.match_info.route.resource
    path = shown_path(request.rel_url.raw_path, 500, resource.canonical if resource else None)
    return {"request_id": request_id(request), "method": request.method, "path": path}
