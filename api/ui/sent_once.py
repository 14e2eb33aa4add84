"""Forms that take effect once: a double click, Back and a resent page make nothing twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR
from api.services import services
from vm_webapp.idempotency import Answer, KeyedRequest, KeyInUse, KeyScope, StoredResponse, run_once_per_key
from vm_webapp.ops.bulk import BATCH

ONCE = "once"  # the name of the hidden field
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
# A second click replaces the first one's response in the browser, so it waits for the first to end.
MOST_WAITS, WAIT_SECONDS = 50, 0.1


@dataclass(frozen=True, slots=True)
class Sent:
    """What a form has led to.

    Attributes:
        location: the page that shows it.
        is_other: the same form was sent before with other fields, so that nothing has happened now.
    """

    location: str
    is_other: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """How many things a form has changed.

    Attributes:
        changed: those that it changed.
        busy: those that another transaction had locked, so that they are as they were.
    """

    changed: int
    busy: int


Change = Callable[[Sequence[UUID]], Changed]


def new_token() -> str:
    """Return the token of a form that has not been sent."""
    return secrets.token_urlsafe(16)


async def send_once(request: web.Request, fields: Mapping[str, str], effect: Callable[[], str]) -> Sent:
    """Run the effect of a form, unless the form has taken effect before.

    Args:
        request: the request that has brought the form.
        fields: the form's fields, with its token under ``ONCE``; one that has none is taken for a new form.
        effect: makes the change, within a transaction, and returns the page that shows it. What it raises leaves the
            form unsent.

    Raises:
        KeyInUse: the same form is being sent, and that does not end.
    """
    answer = await _once(request, fields, lambda: StoredResponse(201, {"Location": effect()}, _digest(fields)))
    done = answer.response
    return Sent(done.headers["Location"], answer.replayed and done.body != _digest(fields))


async def send_in_batches(
    request: web.Request, fields: Mapping[str, str], find: Callable[[], Sequence[UUID]], change: Change
) -> Changed:
    """Change many things, a batch after the other, each in a transaction of its own and once for a form.

    Sent again, the form goes on where it was interrupted, and changes no other things than those it found first.

    Args:
        request: the request that has brought the form.
        fields: the form's fields, as for ``send_once``.
        find: returns what to change.
        change: changes a batch of it.

    Raises:
        KeyInUse: the same form is being sent, and that does not end.
    """
    found = await _once(request, fields, lambda: StoredResponse(200, {}, " ".join(map(str, find())).encode()))
    ids = [UUID(id) for id in found.response.body.decode().split()]
    total = Changed(0, 0)
    for number in range(0, len(ids), BATCH):
        batch = partial(_stored, change, ids[number : number + BATCH])
        done = await _once(request, fields, batch, part=f".{number}")
        changed, busy = map(int, done.response.body.split())
        total = Changed(total.changed + changed, total.busy + busy)
    return total


def _stored(change: Change, ids: Sequence[UUID]) -> StoredResponse:
    done = change(ids)
    return StoredResponse(200, {}, f"{done.changed} {done.busy}".encode())


def _digest(fields: Mapping[str, str]) -> bytes:
    given = {name: value for name, value in fields.items() if name != ONCE}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest().encode()


async def _once(
    request: web.Request, fields: Mapping[str, str], effect: Callable[[], StoredResponse], *, part: str = ""
) -> Answer:
    """Run an effect, or a part of it, unless the form has had it before; return its response and whether it had."""
    actor, token = request[ACTOR], fields.get(ONCE, "")
    if not TOKEN.fullmatch(token):
        token = new_token()
    keyed = KeyedRequest.of(KeyScope(actor.name, request.method, request.path, token + part, actor.id), b"")
    for attempt in range(MOST_WAITS):
        try:
            return await services(request).threads.run(lambda: run_once_per_key(keyed, effect))
        except KeyInUse:
            if attempt == MOST_WAITS - 1:
                raise
            await asyncio.sleep(WAIT_SECONDS)
    raise AssertionError
