"""Who may: a bearer token where the door is shut, and only this machine's own pages where it is open."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.problems import Handler, RequestError

ACTOR = web.RequestKey("actor", str)
ADMIN, LOCAL = "admin", "local"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HOW_TO_GET_IN = "send Authorization: Bearer with the value of VM_API_TOKEN"
NO_TOKEN_YET = "no token exists yet: set VM_API_TOKEN on the service and send it as Authorization: Bearer"  # noqa: S105


def guard(*, require_token: bool, token: str | None, public_paths: Collection[str]) -> Middleware:
    """Return the middleware that decides who may, and notes who it is under ``ACTOR``; strangers have none.

    Args:
        require_token: whether the door is shut.
        token: the admin token, None where there is none.
        public_paths: paths that answer to strangers.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _holds_token(request, token):
            request[ACTOR] = ADMIN
        elif require_token and request.path not in public_paths:
            detail = HOW_TO_GET_IN if token else NO_TOKEN_YET
            raise RequestError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        elif not require_token:
            _refuse_foreign_pages(request)
            request[ACTOR] = LOCAL
        return await handler(request)

    return check


def showed_credentials(request: web.Request) -> bool:
    """Tell whether the caller proved who it is, rather than merely finding the door open."""
    return request.get(ACTOR) not in (None, LOCAL)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _holds_token(request: web.Request, token: str | None) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())


def _refuse_foreign_pages(request: web.Request) -> None:
    """A page of another site must not reach an open door through somebody's browser, by rebinding or by a form."""
    if not is_loopback(_host_of(f"//{request.headers.get('Host', '')}")):
        raise RequestError(403, "forbidden_host", "the open local API answers only to localhost names")
    if request.method in SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        # A page without an origin of its own, such as a sandboxed frame, says "null".
        foreign = origin is not None and not is_loopback(_host_of(origin))
    if foreign:
        raise RequestError(403, "cross_site", "another site's page may not change anything here")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as a bracket that is not closed
        return ""
