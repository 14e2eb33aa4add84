"""Who may: a bearer token or key where the door is shut, and only this machine's own pages where it is open."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.keyring import KeyRing
from api.problems import Handler, RequestError

ACTOR = web.RequestKey("actor", str)
ADMIN, LOCAL = "admin", "local"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
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


def _bearer(request: web.Request) -> str:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _is_same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())


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
