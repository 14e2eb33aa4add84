"""The guard: it requires a bearer token or key, or, on an open local API, a request from this machine's own pages."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.auth.actors import ADMIN, LOCAL, admit
from api.auth.hosts import refuse_foreign_pages
from api.auth.key_cache import KeyCache
from api.http.problems import Handler, RequestError

MAKE_KEY = "python -m vm_webapp keys create NAME"
HOW_TO_GET_IN = f"send Authorization: Bearer with the value of VM_API_TOKEN or with a key ({MAKE_KEY} makes one)"
NO_TOKEN_YET = f"send Authorization: Bearer with a key ({MAKE_KEY} makes one), or set VM_API_TOKEN on the service"


def guard(*, require_token: bool, token: str | None, keys: KeyCache, public_paths: Collection[str]) -> Middleware:
    """Return the middleware that admits or refuses a request and stores the caller under ``ACTOR``.

    A request without credentials to a public path has no ``ACTOR``.

    Args:
        require_token: whether requests must carry credentials.
        token: the admin token, None if none is configured.
        keys: the API keys that operators have created.
        public_paths: paths that need no credentials.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = _bearer(request)
        if token is not None and given and _is_same(given, token):
            admit(request, ADMIN)
        elif given and request.path not in public_paths and (holder := await keys.actor_with(given)):
            # No key lookup on a probe's path: liveness must not wait for the database.
            admit(request, holder)
        elif require_token and request.path not in public_paths:
            detail = HOW_TO_GET_IN if token else NO_TOKEN_YET
            raise RequestError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        elif not require_token:
            refuse_foreign_pages(request)
            admit(request, LOCAL)
        return await handler(request)

    return check


def _bearer(request: web.Request) -> str:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _is_same(given: str, token: str) -> bool:
    # aiohttp decodes headers with surrogateescape: bytes that are not UTF-8 must compare unequal, not raise.
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())
