"""The origin of a request: whether a host is this machine, and whether another site's page sent the request."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

from api.http.problems import RequestError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback one."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_foreign_pages(request: web.Request) -> None:
    """Protect an API without credentials from other sites' pages in this machine's browser.

    Such a page can reach loopback by DNS rebinding, or by submitting a form.

    Raises:
        RequestError: 403; the host is not this machine's, or another site's page tries to change something.
    """
    # DNS rebinding: the page's own host name resolves to 127.0.0.1. The browser still sends that name as the Host.
    if not is_loopback(_host_of(f"//{request.headers.get('Host', '')}")):
        raise RequestError(403, "forbidden_host", "the open local API accepts only localhost names")
    if request.method in SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        # Browsers without Sec-Fetch-Site. A page without an origin, such as a sandboxed frame, sends "null".
        foreign = origin is not None and not is_loopback(_host_of(origin))
    if foreign:
        raise RequestError(403, "cross_site", "another site's page may not change anything here")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as a bracket that is not closed
        return ""
