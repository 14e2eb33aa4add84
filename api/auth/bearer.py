"""Who may: a bearer token or key where the door is shut, and only this machine's own pages where it is open."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.auth.actors import ACTOR, ADMIN, LOCAL
from api.auth.hosts import refuse_foreign_pages
from api.auth.key_ring import KeyRing
from api.http.problems import Handler, RequestError

MAKE_KEY = "python -m vm_webapp keys create NAME"
HOW_TO_GET_IN = f"send Authorization: Bearer with the value of VM_API_TOKEN or with a key ({MAKE_KEY} makes one)"
NO_TOKEN_YET = f"send Authorization: Bearer with a key ({MAKE_KEY} makes one), or set VM_API_TOKEN on the service"


def guard(*, require_token: bool, token: str | None, keys: KeyRing, public_paths: Collection[str]) -> Middleware:
    """Return the middleware that decides who may, and notes who it is under ``ACTOR``; strangers have none.

    Args:
        require_token: whether the door is shut.
        token: the admin token, None where there is none.
        keys: the keys that operators have made; each is an admin's.
        public_paths: paths that answer to strangers.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = _bearer(request)
        if token is not None and given and _is_same(given, token):
            request[ACTOR] = ADMIN
        elif given and request.path not in public_paths and (name := await keys.holder(given)):
            # Not on a probe's path: liveness must not wait for the database that keys are looked up in.
            request[ACTOR] = f"key:{name}"
        elif require_token and request.path not in public_paths:
            detail = HOW_TO_GET_IN if token else NO_TOKEN_YET
            raise RequestError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        elif not require_token:
            refuse_foreign_pages(request)
            request[ACTOR] = LOCAL
        return await handler(request)

    return check


def _bearer(request: web.Request) -> str:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _is_same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())
