"""The cookie of a browser's session.

Its name follows from the address that the service is bound to, and from a trusted proxy, never from what a stranger can
send. With the prefix ``__Host-`` a browser takes it only over TLS, only from this host and for all its paths (RFC
6265bis, section 4.1.3). On loopback there is no TLS; cookies ignore ports, so the plain name carries the port.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from api.http.addresses import is_https

HOST_ONLY = "__Host-vm"


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The one cookie that counts for a request.

    Attributes:
        secure: whether browsers send it over TLS only.
    """

    name: str
    secure: bool

    def values(self, request: web.Request) -> list[str]:
        """Return every value that a request has for it: usually one or none, more if somebody has planted another."""
        # From the headers: a parser of cookies keeps one of two, decodes names, or strips more than spaces and tabs,
        # by which other names pass for ours.
        pairs = [pair.partition("=") for header in request.headers.getall("Cookie", []) for pair in header.split(";")]
        return [value.strip(" \t") for name, _, value in pairs if name.strip(" \t") == self.name]

    def set(self, response: web.StreamResponse, secret: str, *, max_age: int) -> None:
        """Set it on a response; it lasts ``max_age`` seconds, beyond the end of the browser."""
        response.set_cookie(
            self.name, secret, max_age=max_age, path="/", secure=self.secure, httponly=True, samesite="Lax"
        )

    def clear(self, response: web.StreamResponse) -> None:
        """Take it away."""
        # With the same attributes: without Secure a browser ignores what begins with __Host-.
        self.set(response, "", max_age=0)


def session_cookie(request: web.Request, *, loopback: bool) -> SessionCookie:
    """Return the cookie that counts for a request.

    Args:
        request: the request.
        loopback: whether the service is bound to a loopback address.
    """
    if not loopback or is_https(request):
        return SessionCookie(HOST_ONLY, secure=True)
    return SessionCookie(f"vm-{_bound_port(request)}", secure=False)


def _bound_port(request: web.Request) -> int:
    # Of the socket, not of the Host header.
    bound = request.transport.get_extra_info("sockname") if request.transport else None
    return int(bound[1]) if bound else 0
