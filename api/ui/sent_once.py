"""Forms that take effect once: a double click, Back and a resent page make nothing twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from api.auth.actors import ACTOR
from api.services import services
from vm_webapp.idempotency import KeyInUse, KeyScope, StoredResponse, run_once_per_key

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
    actor, token = request[ACTOR], fields.get(ONCE, "")
    if not TOKEN.fullmatch(token):
        token = new_token()
    scope = KeyScope(actor.name, request.method, request.path, token, actor.id)
    given = {name: value for name, value in fields.items() if name != ONCE}
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest().encode()

    def run() -> tuple[StoredResponse, bool]:
        return run_once_per_key(scope, b"", lambda: StoredResponse(201, {"Location": effect()}, digest))

    for attempt in range(MOST_WAITS):
        try:
            stored, replayed = await services(request).threads.run(run)
        except KeyInUse:
            if attempt == MOST_WAITS - 1:
                raise
            await asyncio.sleep(WAIT_SECONDS)
        else:
            return Sent(stored.headers["Location"], replayed and stored.body != digest)
    raise AssertionError
