"""Operations that change something: one transaction each, executed at most once per ``Idempotency-Key``.

    @command("POST", "/runs", role="editor", summary="Create a run", status=201)
    def create_run(call: Call, body: NewRunIn) -> JsonResponse[RunOut]: ...

The function runs on a database thread. Its changes and the response that is stored under the key commit together.
Without a key, ``commits_itself`` leaves the transaction to the function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
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
    commits_itself: bool = False,
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
        commits_itself: the function makes one call of the core, which is a transaction of its own, and reads nothing
            after it that must be as this call left it. Otherwise all of the function is one transaction.
    """

    def declare(function: Command) -> Operation:
        @wraps(function)
        async def run(request: web.Request, **arguments: BaseModel) -> web.Response:
            call = Call.of(request)

            def effect() -> StoredResponse:
                response = function(call, **arguments)
                # Serialised within the transaction: a replay must return the same bytes.
                body = response.body.model_dump_json().encode()
                return StoredResponse(response.status or status, response.headers, body)

            return await _respond_once(request, effect, effect if commits_itself else partial(_commit, effect))

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


async def _respond_once(
    request: web.Request, effect: Callable[[], StoredResponse], committed: Callable[[], StoredResponse]
) -> web.Response:
    """Respond with what an effect returns, at most once under a key; ``committed`` is the effect without a key."""
    key = _read_key(request)
    threads = services(request).threads
    if key is None:
        stored, replayed = await threads.run(committed), False
    else:
        sent = await request.read()  # aiohttp keeps the bytes that read_body() has read
        actor = request[ACTOR]
        scope = KeyScope(actor.name, request.method, request.path_qs, key, actor.id)
        stored, replayed = await threads.run(lambda: run_once_per_key(scope, sent, effect))
    headers = stored.headers | ({REPLAYED.name: "true"} if replayed else {})
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
