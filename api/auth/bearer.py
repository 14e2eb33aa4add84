"""The guard: it requires a bearer token or key, or, on an open local API, a request from this machine's own pages."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.auth.actors import ACTOR, ADMIN, LOCAL, admit
from api.auth.failed_attempts import FailedAttempts
from api.auth.hosts import refuse_foreign_pages
from api.auth.key_cache import KeyCache
from api.auth.rate_limits import RateLimits
from api.http.addresses import client_address
from api.http.problems import Handler, RequestError
from vm_webapp.access.actor import Actor

MAKE_KEY = "python -m vm_webapp keys create NAME"
HOW_TO_GET_IN = f"send Authorization: Bearer with the value of VM_API_TOKEN or with a key ({MAKE_KEY} makes one)"
NO_TOKEN_YET = f"send Authorization: Bearer with a key ({MAKE_KEY} makes one), or set VM_API_TOKEN on the service"


def guard(
    *, require_token: bool, token: str | None, keys: KeyCache, limits: RateLimits, public_paths: Collection[str]
) -> Middleware:
    """Return the middleware that admits or refuses a request and stores the caller under ``ACTOR``.

    A request without credentials to a public path has no ``ACTOR``.

    Args:
        require_token: whether requests must carry credentials.
        token: the admin token, None if none is configured.
        keys: the API keys that operators have created.
        limits: how many requests a minute each key may send.
        public_paths: paths that need no credentials.
    """

    failures = FailedAttempts()

    async def holder_of(request: web.Request, given: str) -> Actor | None:
        address = client_address(request)
        # Somebody else at the same address, such as a company's proxy, goes on with a key that has been valid.
        if require_token and not keys.has_known(given):
            failures.refuse_if_too_many(address)
        holder = await keys.actor_with(given)
        if holder is None and require_token:
            failures.note(address)
        return holder

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = _bearer(request)
        if token is not None and given and _is_same(given, token):
            admit(request, ADMIN)
        elif given and request.path not in public_paths and (holder := await holder_of(request, given)):
            # No key lookup on a probe's path: liveness must not wait for the database.
            admit(request, holder)
        elif require_token and request.path not in public_paths:
            detail = HOW_TO_GET_IN if token else NO_TOKEN_YET
            raise RequestError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        elif not require_token:
            refuse_foreign_pages(request)
            admit(request, LOCAL)
        actor = request.get(ACTOR)
        # A key, or the session of one. The token has no limit: operators need it while everything else is refused.
        if actor is not None and actor.key_id is not None:
            await limits.admit(request, str(actor.key_id))
        return await handler(request)

    return check


def _bearer(request: web.Request) -> str:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _is_same(given: str, token: str) -> bool:
    # aiohttp decodes headers with surrogateescape: bytes that are not UTF-8 must compare unequal, not raise.
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())
