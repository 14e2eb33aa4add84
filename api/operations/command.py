"""Operations that change something: one transaction each, executed at most once per ``Idempotency-Key``.

    @command("POST", "/runs", role="editor", summary="Create a run", status=201)
    def create_run(call: Call, body: NewRunIn) -> JsonResponse[RunOut]: ...

The function runs on a database thread. Its changes and the response that is stored under the key commit together.
Where a command is ``joint``, requests that arrive while others are executed are executed together next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.auth.actors import ACTOR
from api.http.problems import FieldProblem, RequestError
from api.operations.call import Call
from api.operations.headers import IDEMPOTENCY_KEY, REPLAYED, Header
from api.operations.operation import JsonResponse, Models, Operation, operation
from vm_webapp.access.roles import Role
from vm_webapp.db.pool import transaction
from vm_webapp.errors import VMError
from vm_webapp.idempotency import Answer, KeyedRequest, KeyScope, StoredResponse, run_each_once, run_once_per_key

KEY_HEADER = IDEMPOTENCY_KEY.name
MAX_KEY_LENGTH = 255
PATIENCE_SECONDS = 1.0


Command = Callable[..., JsonResponse[Any]]


@dataclass(frozen=True, slots=True)
class Joint:
    """How requests that arrive at the same time are executed together.

    The function of such a command makes one call of the core, which is a transaction of its own, and reads nothing
    after it that must be as this call left it.

    Attributes:
        prepare: called with what the command's function gets, on the event loop; returns what ``execute`` needs to know
            of the request, or None for one that is to be executed by itself.
        execute: executes some requests on a database thread, by one statement or in the transaction that there is; all
            of them or none. Returns their responses in the same order.
    """

    prepare: Callable[..., Any]
    execute: Callable[[Sequence[Any]], Sequence[JsonResponse[Any]]]


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
    joint: Joint | None = None,
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
        joint: executes requests that arrive at the same time together; None to execute each by itself.
    """

    def declare(function: Command) -> Operation:
        @wraps(function)
        async def run(request: web.Request, **arguments: BaseModel) -> web.Response:
            call, keyed = Call.of(request), await _keyed(request)
            asked = joint.prepare(call, **arguments) if joint else None
            if asked is not None:
                ask = partial(call.services.joint_calls.ask, patience_seconds=PATIENCE_SECONDS)
                if keyed:
                    return _response(await ask(execute_each_once, (keyed, asked)))
                return _response(await ask(execute_all, asked))

            def effect() -> StoredResponse:
                # Serialised within the transaction: a replay must return the same bytes.
                return stored(function(call, **arguments))

            if keyed:
                execute = partial(run_once_per_key, keyed, effect)
            else:
                execute = partial(_answer if joint else _commit, effect)
            return _response(await call.services.threads.run(execute))

        def stored(response: JsonResponse[Any]) -> StoredResponse:
            body = response.body.model_dump_json().encode()
            return StoredResponse(response.status or status, response.headers, body)

        def execute_all(asked: Sequence[Any]) -> list[Answer]:
            assert joint is not None
            return [Answer(stored(response)) for response in joint.execute(asked)]

        def execute_each_once(asked: Sequence[tuple[KeyedRequest, Any]]) -> list[Answer | VMError]:
            def execute(places: Sequence[int]) -> list[StoredResponse]:
                return [answer.response for answer in execute_all([asked[place][1] for place in places])]

            return run_each_once([keyed for keyed, _ in asked], execute)

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


def _response(answer: Answer) -> web.Response:
    stored = answer.response
    headers = stored.headers | ({REPLAYED.name: "true"} if answer.replayed else {})
    return web.Response(body=stored.body, status=stored.status, content_type="application/json", headers=headers)


def _answer(effect: Callable[[], StoredResponse]) -> Answer:
    return Answer(effect())


def _commit(effect: Callable[[], StoredResponse]) -> Answer:
    with transaction():
        return Answer(effect())


async def _keyed(request: web.Request) -> KeyedRequest | None:
    key = _read_key(request)
    if key is None:
        return None
    actor = request[ACTOR]
    scope = KeyScope(actor.name, request.method, request.path_qs, key, actor.id)
    return KeyedRequest.of(scope, await request.read())  # aiohttp keeps the bytes that read_body() has read


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
