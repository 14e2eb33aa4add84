"""Who may: a bearer token where the door is shut, and only this machine's own pages where it is open."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.problems import Handler, RequestError

ALWAYS_OPEN = frozenset({"/api/v2/health/live", "/api/v2/health/ready"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HOW_TO_GET_IN = "send Authorization: Bearer with the value of VM_API_TOKEN"
NO_TOKEN_YET = "no token exists yet: set VM_API_TOKEN on the service and send it as Authorization: Bearer"  # noqa: S105


def guard(*, require_token: bool, token: str | None) -> Middleware:
    """Return the middleware that decides who may.

    Args:
        require_token: whether the door is shut.
        token: the admin token, None where there is none.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        request["actor"] = None
        if _holds_token(request, token):
            request["actor"] = "admin"
        elif require_token and request.path not in ALWAYS_OPEN:
            detail = HOW_TO_GET_IN if token else NO_TOKEN_YET
            raise RequestError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        elif not require_token:
            _refuse_foreign_pages(request)
            request["actor"] = "local"
        return await handler(request)

    return check


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
    host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    if not is_loopback(host):
        raise RequestError(403, "forbidden_host", "the open local API answers only to localhost names")
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = urlsplit(request.headers.get("Origin", "")).hostname
    if (site not in (None, "same-origin", "none")) or (site is None and origin and not is_loopback(origin)):
        raise RequestError(403, "cross_site", "another site's page may not change anything here")
