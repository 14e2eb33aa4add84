"""Who is signed in in a browser: opens sessions, finds them by their cookie, and ends them."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web
from aiohttp.hdrs import COOKIE

from api.auth.cookies import SessionCookie, session_cookie
from api.auth.credential_cache import CredentialCache
from api.auth.forgery import refuse_forged
from api.http.addresses import client_address, is_https
from api.http.problems import RequestError
from api.http.request_ids import request_id
from api.http.threads import Threads
from vm_webapp.access import sessions
from vm_webapp.access.actor import Actor
from vm_webapp.access.sessions import OpenSession, SessionRules

PLAIN_HTTP = (
    "sign in over https: let a proxy that ends TLS stand before this service, and name its address in"
    " VM_TRUSTED_PROXIES; without one, serve on 127.0.0.1 and come through an SSH tunnel"
)


class BrowserSessions:
    """The sessions of browsers, as one API process sees them.

    Args:
        threads: the pool on which database queries run.
        rules: what decides how long a session goes on.
        loopback: whether the service is bound to a loopback address.
    """

    def __init__(self, threads: Threads, rules: SessionRules, *, loopback: bool) -> None:
        self._threads = threads
        self._rules = rules
        self._loopback = loopback
        self._known = _SessionCache(threads, rules)

    @property
    def rules(self) -> SessionRules:
        """What decides how long a session goes on."""
        return self._rules

    def cookie(self, request: web.Request) -> SessionCookie:
        """Return the cookie that counts for a request."""
        return session_cookie(request, loopback=self._loopback)

    async def actor_of(self, request: web.Request) -> Actor | None:
        """Return who is signed in in the browser that sends a request, None if nobody is.

        Of two cookies of the name at least one was planted, and the order in which a browser sends them is nobody's
        promise: neither counts.

        Raises:
            RequestError: 403; somebody is signed in, but a page of another site wants to change something.
            Unavailable: the database could not be queried.
        """
        if COOKIE not in request.headers:
            return None
        cookie = self.cookie(request)
        given = cookie.values(request)
        actor = await self._known.actor_with(given[0]) if len(given) == 1 else None
        if actor is not None:
            refuse_forged(request, secure=cookie.secure)
        return actor

    def refusal_of(self, request: web.Request) -> str:
        """Return what the audit trail calls a request in which nobody is signed in."""
        given = len(self.cookie(request).values(request))
        return "unauthorized" if not given else "invalid_session" if given == 1 else "doubled_cookie"

    def refuse_plain_http(self, request: web.Request) -> None:
        """Refuse to take a key from a browser over a network that others can listen to.

        Raises:
            RequestError: 403; the request did not come over TLS, as far as can be known.
        """
        if not self._loopback and not is_https(request):
            raise RequestError(403, "https_required", PLAIN_HTTP)

    async def sign_in(self, request: web.Request, secret: str, response: web.StreamResponse) -> bool:
        """Open a session for whoever presents a key or the token, and set its cookie on a response.

        The browser's session until now ends.

        Returns:
            Whether it is a key or the token; otherwise nothing has changed.

        Raises:
            Unavailable: the database could not be queried.
        """
        cookie, address = self.cookie(request), client_address(request)
        given, agent = cookie.values(request), request.headers.get("User-Agent", "")
        replaces = given[0] if len(given) == 1 else None
        opened = await self._threads.run(
            lambda: sessions.open_session(
                secret,
                self._rules,
                address=address,
                user_agent=agent,
                replaces=replaces,
                request_id=request_id(request),
            )
        )
        if opened is None:
            return False
        self._known.forget_all()
        cookie.set(response, opened.secret, max_age=round(self._rules.lasts.total_seconds()))
        return True

    async def end(self, id: UUID, *, actor: Actor) -> None:
        """End one session; see ``vm_webapp.access.sessions.end_session``."""
        await self._threads.run(lambda: sessions.end_session(id, actor=actor))
        self._known.forget_all()

    async def end_own(self, actor: Actor) -> int:
        """End every session of a person; see ``vm_webapp.access.sessions.end_own_sessions``."""
        ended = await self._threads.run(lambda: sessions.end_own_sessions(actor))
        self._known.forget_all()
        return ended

    def forget_all(self) -> None:
        """Look every session up again: one has just been ended."""
        self._known.forget_all()


class _SessionCache(CredentialCache):
    """Finds who is signed in by the secret of a session."""

    def __init__(self, threads: Threads, rules: SessionRules) -> None:
        super().__init__(threads)
        self._rules = rules

    def _could_be(self, secret: str) -> bool:
        return sessions.could_be_session(secret)

    def _find(self, secret: str) -> OpenSession | None:
        return sessions.find_session(secret, self._rules)
