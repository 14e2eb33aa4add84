"""Cross-site request forgery: a browser attaches its cookies also to what another site's page sends.

Browsers say since 2023 at the latest which page a request comes from (``Sec-Fetch-Site``); older ones send ``Origin``.
Whoever has neither is refused: clients that are no browsers use a key and no cookie.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from api.auth.hosts import SAFE_METHODS
from api.http.problems import RequestError

DEFAULT_PORTS = {"http": 80, "https": 443}


def refuse_forged(request: web.Request, *, secure: bool) -> None:
    """Refuse a request that changes something, unless a page of this origin has sent it.

    Args:
        request: the request.
        secure: whether pages of this origin come over TLS.

    Raises:
        RequestError: 403; another site's page, or no page at all, has sent it.
    """
    if request.method not in SAFE_METHODS and not _is_of_this_origin(request, secure=secure):
        raise RequestError(403, "cross_site", "only a page of this site may change anything with its cookie")


def _is_of_this_origin(request: web.Request, *, secure: bool) -> bool:
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if sites:
        # Neither "same-site", such as another port or a neighbouring name, nor "none": no page of ours sends it, an
        # extension of the browser may.
        return sites == ["same-origin"]
    own = _parts(f"{'https' if secure else 'http'}://{request.headers.get('Host', '')}")
    return own is not None and _parts(request.headers.get("Origin", "")) == own


def _parts(origin: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an origin, None if it is none."""
    try:
        split = urlsplit(origin)
        port = split.port
    except ValueError:
        return None
    if split.scheme not in DEFAULT_PORTS or not split.hostname or origin.count("/") != 2 or "@" in split.netloc:
        return None
    return split.scheme, split.hostname, DEFAULT_PORTS[split.scheme] if port is None else port
