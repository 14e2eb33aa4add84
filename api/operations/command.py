"""Operations that change something: one transaction each, executed at most once per ``Idempotency-Key``.

    @command("POST", "/runs", role="editor", summary="Create a run", status=201)
    def create_run(call: Call, body: NewRunIn) -> JsonResponse[RunOut]: ...

The function runs on a database thread. Its changes and the response that is stored under the key commit together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from types import MappingProxyType
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.auth.actors import ACTOR
from api.http.problems import FieldProblem, RequestError
from api.operations.call import Call
from api.operations.headers import IDEMPOTENCY_KEY, REPLAYED, Header
from api.operations.operation import JsonResponse, Models, Operation, operation
from api.services import services
from vm_webapp.access.roles import Role
from vm_webapp.db.pool import transaction
from vm_webapp.idempotency import KeyScope, StoredResponse, run_once_per_key

KEY_HEADER = IDEMPOTENCY_KEY.name
MAX_KEY_LENGTH = 255


Command = Callable[..., JsonResponse[Any]]
UnkeyedCommand = Callable[..., Awaitable[JsonResponse[Any]]]


def command(
    method: str,
    path: str,
    *,
    role: Role,
    summary: str,
    name: str | None = None,
    models: Models | None = None,
    response_model: type[BaseModel] | None = None,
    status: int = 200,
    errors: tuple[int, ...] = (),
    tag: str | None = None,
    accepts: tuple[Header, ...] = (),
    returns: tuple[Header, ...] = (),
    unkeyed: UnkeyedCommand | None = None,
) -> Callable[[Command], Operation]:
    """Declare an operation that changes something.

    Args:
        method: as for ``operation``, and so are the other arguments.
        path: as for ``operation``.
        role: as for ``operation``.
        summary: as for ``operation``.
        name: as for ``operation``.
        models: as for ``operation``.
        response_model: as for ``operation``.
        status: as for ``operation``.
        errors: as for ``operation``.
        tag: as for ``operation``.
        accepts: as for ``operation``.
        returns: as for ``operation``.
        unkeyed: does the same for a request without a key, on the event loop; None to call the function, too.
    """

    def declare(function: Command) -> Operation:
        @wraps(function)
        async def run(request: web.Request, **arguments: BaseModel) -> web.Response:
            call, key = Call.of(request), _read_key(request)

            def stored(response: JsonResponse[Any]) -> StoredResponse:
                body = response.body.model_dump_json().encode()
                return StoredResponse(response.status or status, response.headers, body)

            def effect() -> StoredResponse:
                # Serialised within the transaction: a replay must return the same bytes.
                return stored(function(call, **arguments))

            if key is not None:
                return await _respond_once(request, key, effect)
            if unkeyed is not None:
                return _response(stored(await unkeyed(call, **arguments)))
            return _response(await call.services.threads.run(partial(_commit, effect)))

        # PATCH takes no key: If-Match already keeps a repetition from changing anything twice.
        keyed = method == "POST"
        return operation(
            method,
            path,
            role=role,
            summary=summary,
            name=name,
            models=models,
            response_model=response_model,
            status=status,
            errors=(*errors, 409) if keyed else errors,
            keyed=keyed,
            tag=tag,
            accepts=accepts,
            returns=returns,
        )(run)

    return declare


async def _respond_once(request: web.Request, key: str, effect: Callable[[], StoredResponse]) -> web.Response:
    """Respond with what an effect returns, at most once under a key."""
    sent = await request.read()  # aiohttp keeps the bytes that read_body() has read
    actor = request[ACTOR]
    scope = KeyScope(actor.name, request.method, request.path_qs, key, actor.id)
    found, replayed = await services(request).threads.run(lambda: run_once_per_key(scope, sent, effect))
    return _response(found, {REPLAYED.name: "true"} if replayed else {})


def _response(stored: StoredResponse, further: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    headers = {**stored.headers, **further}
    return web.Response(body=stored.body, status=stored.status, content_type="application/json", headers=headers)


def _commit(effect: Callable[[], StoredResponse]) -> StoredResponse:
    with transaction():
        return effect()


def _read_key(request: web.Request) -> str | None:
    given = request.headers.getall(KEY_HEADER, [])
    if not given or request.method != "POST":
        return None
    key = given[0]
    # Two keys would leave open which one counts.
    if len(given) > 1 or not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        message = f"must be given once, with 1 to {MAX_KEY_LENGTH} printable ASCII characters"
        wrong = FieldProblem(header=KEY_HEADER, message=message)
        raise RequestError(422, "invalid_header", f"{KEY_HEADER}: {message}", errors=[wrong])
    return key
