"""The security headers of every response, whoever builds it."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from api.http.addresses import is_https

CACHE_CONTROL = "Cache-Control"
# A dict: updating headers from a read-only view of one takes three times as long.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: a browser would then send Origin: null with a form, which a check of the origin refuses.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "vm-webapp",  # aiohttp's own names its version and Python's
}
# What an answer is about may be personal, so it is stored nowhere unless its handler says otherwise.
NOT_STORED = "no-store"
STRICT_TRANSPORT_SECURITY = "max-age=31536000; includeSubDomains"


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on a response; connected to ``on_response_prepare``.

    ``Strict-Transport-Security`` only where the client used HTTPS: over HTTP a browser ignores it (RFC 6797, 8.1).
    """
    headers = response.headers
    headers.update(SECURITY_HEADERS)
    if CACHE_CONTROL not in headers:
        headers[CACHE_CONTROL] = NOT_STORED
    if is_https(request):
        headers["Strict-Transport-Security"] = STRICT_TRANSPORT_SECURITY
