"""Operations that change something: one transaction each, and done at most once under an ``Idempotency-Key``.

    @command("POST", "/runs", summary="Create a run", status=201)
    def create_run(call: Call, body: NewRunIn) -> Answer[RunOut]: ...

The function runs on a database thread. What it does and the answer that is kept under the key commit together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.auth.actors import ACTOR
from api.http.problems import FieldProblem, RequestError
from api.operations.call import Call
from api.operations.operation import Answer, Models, Operation, operation
from api.services import services
from vm_webapp.db.pool import transaction
from vm_webapp.idempotency import KeyScope, StoredResponse, do_once

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
LONGEST_KEY = 255


Command = Callable[..., Answer[Any]]


def command(
    method: str,
    path: str,
    *,
    summary: str,
    name: str | None = None,
    models: Models | None = None,
    answer: type[BaseModel] | None = None,
    status: int = 200,
    errors: tuple[int, ...] = (),
) -> Callable[[Command], Operation]:
    """Declare an operation that changes something. The arguments are those of ``operation``."""

    def declare(function: Command) -> Operation:
        @wraps(function)
        async def run(request: web.Request, **arguments: BaseModel) -> web.Response:
            call = Call.of(request)

            def effect() -> StoredResponse:
                done = function(call, **arguments)
                body = done.body.model_dump_json().encode()
                return StoredResponse(done.status or status, done.headers, body)

            return await _answer_once(request, effect)

        keyed = method == "POST"
        return operation(
            method,
            path,
            summary=summary,
            name=name,
            models=models,
            answer=answer,
            status=status,
            errors=(*errors, 409) if keyed else errors,
            keyed=keyed,
        )(run)

    return declare


async def _answer_once(request: web.Request, effect: Callable[[], StoredResponse]) -> web.Response:
    key = _read_key(request)
    threads = services(request).threads
    if key is None:
        answer, replayed = await threads.run(lambda: _commit(effect)), False
    else:
        sent = await request.read()
        scope = KeyScope(request[ACTOR], request.method, request.path_qs, key)
        answer, replayed = await threads.run(lambda: do_once(scope, sent, effect))
    headers = answer.headers | ({REPLAYED_HEADER: "true"} if replayed else {})
    return web.Response(body=answer.body, status=answer.status, content_type="application/json", headers=headers)


def _commit(effect: Callable[[], StoredResponse]) -> StoredResponse:
    with transaction():
        return effect()


def _read_key(request: web.Request) -> str | None:
    given = request.headers.getall(KEY_HEADER, [])
    if not given or request.method != "POST":
        return None
    key = given[0]
    if len(given) > 1 or not 1 <= len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
        message = f"must be given once, with 1 to {LONGEST_KEY} printable ASCII characters"
        wrong = FieldProblem(header=KEY_HEADER, message=message)
        raise RequestError(422, "invalid_header", f"{KEY_HEADER}: {message}", errors=[wrong])
    return key
