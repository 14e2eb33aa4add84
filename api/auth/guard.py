"""The guard: it requires a bearer token or key, or a session; on an open local API it keeps foreign pages out."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.auth.actors import LOCAL, admit
from api.auth.failed_attempts import FailedAttempts
from api.auth.hosts import refuse_foreign_pages
from api.auth.key_cache import KeyCache
from api.auth.rate_limits import RateLimits
from api.auth.sessions import BrowserSessions
from api.http.addresses import client_address
from api.http.problems import Handler, RequestError
from vm_webapp.access.actor import HOLDER_OF_TOKEN, Actor
from vm_webapp.access.tokens import is_token

MAKE_KEY = "python -m vm_webapp keys create NAME"
HOW_TO_GET_IN = f"send Authorization: Bearer with the value of VM_API_TOKEN or with a key ({MAKE_KEY} makes one)"
NO_TOKEN_YET = f"send Authorization: Bearer with a key ({MAKE_KEY} makes one), or set VM_API_TOKEN on the service"


def guard(
    *,
    require_token: bool,
    token: str | None,
    keys: KeyCache,
    sessions: BrowserSessions,
    limits: RateLimits,
    public_paths: Collection[str],
) -> Middleware:
    """Return the middleware that admits or refuses a request and stores the caller under ``ACTOR``.

    A request without credentials to a public path has no ``ACTOR``.

    Args:
        require_token: whether requests must carry credentials.
        token: the admin token, None if none is configured.
        keys: the API keys that operators have created.
        sessions: the sessions that browsers have opened with them.
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
        public = request.path in public_paths
        given = _bearer(request)
        if given and is_token(given, token):
            actor: Actor | None = HOLDER_OF_TOKEN
        elif public:
            actor = None  # no lookup on a probe's path: liveness must not wait for the database
        elif given:
            actor = await holder_of(request, given)
        else:
            actor = await sessions.actor_of(request)
        if actor is None and require_token and not public:
            detail = HOW_TO_GET_IN if token else NO_TOKEN_YET
            reason = "unauthorized" if given else sessions.refusal_of(request)
            raise RequestError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"}, reason=reason)
        if actor is None and not require_token:
            refuse_foreign_pages(request)
            actor = LOCAL
        if actor is not None:
            admit(request, actor)
            # A key, or the session of one. The token has no limit: operators need it while all else is refused.
            if actor.key_id is not None:
                await limits.admit(request, str(actor.key_id))
        return await handler(request)

    return check


def _bearer(request: web.Request) -> str:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
