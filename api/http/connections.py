"""The connections of the HTTP server: how requests that reach no route are answered, and when a connection is ended.

aiohttp answers a malformed request itself, in plain text that quotes it, logs it with a traceback, waits for ever for
headers, and accepts until no file descriptor is left. It has no option for any of this, so its classes are extended
here and nowhere else. They are not meant to be: ``tests/api/test_connections.py`` tests every part against the version
that is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import Collection
from typing import Any, Literal, cast

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from api.http import refusals
from api.http.problems import INTERNAL, from_aiohttp_error, problem
from api.http.refusals import FIELD_BYTES, HEADERS, HEADERS_BYTES, LINE_BYTES, Refusal, Refused, refusal_of
from api.http.request_ids import HEADER, request_id
from api.http.request_metrics import count_refused
from api.http.security_headers import CACHE_CONTROL, NOT_STORED, SECURITY_HEADERS
from vm_webapp.listening import BACKLOG
from vm_webapp.logs import place_of

log = logging.getLogger("api.connections")

HEADER_SECONDS = refusals.HEADER_SECONDS
UNREAD_BODY_SECONDS = 10.0  # how long the rest of a body may take that no handler has read
LINGER_SECONDS = 2.0
# A process serves some hundred requests at a time; a thousand idle connections take about 20 MB.
MOST_CONNECTIONS = 1000
FEWEST_CONNECTIONS = 16
SPARE_CONNECTIONS = 32  # beyond the most, for probes and scrapes
OTHER_FILES = 64
TELL_AGAIN_SECONDS = 60.0

Awaited = Literal["rest", "request", "reading"]
KIND = web.RequestKey("kind", str)
CRASHED = Refusal("crashed", 500, "internal_error", INTERNAL)


def most_connections(*, other_files: int) -> int:
    """Return how many connections a process may serve: ``MOST_CONNECTIONS``, or fewer if it may open fewer files.

    Args:
        other_files: how many files the process opens for its database.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    # asyncio accepts a whole backlog before anything can be ended to make room for it.
    left = limit - other_files - OTHER_FILES - SPARE_CONNECTIONS - BACKLOG
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, left))


class Connection(RequestHandler):
    """A connection.

    - What is malformed is answered with a problem and logged by its kind.
    - Headers must arrive within ``HEADER_SECONDS`` of the connection's begin, or of their first byte if it has been
      used before, and may have ``HEADERS_BYTES`` together.
    - A body that breaks off in an encoding that cannot be read ends the wait for the rest of it.
    """

    __slots__ = ("_body", "_header_bytes", "_header_since", "_header_timer", "_lingers", "_noted", "_refused", "ended")

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(
            manager,
            loop=loop,
            max_line_size=LINE_BYTES,
            max_field_size=FIELD_BYTES,
            max_headers=HEADERS,
            lingering_time=UNREAD_BODY_SECONDS,
            **options,
        )
        self._refused = False  # whatever else is sent is not read
        self._lingers = False
        self.ended = False  # to make room; it stays among the others for a moment
        self._noted = 0  # how many of the requests that have been parsed were looked at
        self._body: StreamReader = EMPTY_PAYLOAD  # of the newest of them
        self._header_bytes = 0
        self._header_since: float | None = None
        self._header_timer: asyncio.TimerHandle | None = None

    @property
    def awaits(self) -> Awaited | None:
        """What the connection waits for its client to do; None while it serves a request.

        To send the rest of headers or of a body, to send another request, or to read what it was sent.
        """
        if self._lingers or not self._body.is_eof():
            return "rest"
        if self._request_in_progress or self._messages:
            return "reading" if self._paused else None
        if self.transport is None or self.transport.is_closing():
            return "reading"
        return "request" if self._header_since is None else "rest"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the wait for headers."""
        if self._header_timer is not None:
            self._header_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, unless the connection has been refused."""
        if self._refused:
            return
        within_headers = self._body.is_eof() and not self._upgraded
        try:
            super().data_received(data)
        except Exception:  # which a header or an address made the parser raise; its text may hold either
            self._refuse(refusals.MALFORMED)
            return
        if self._request_count != self._noted:
            self._note_requests(len(data))
        elif within_headers and data:
            self._note_part(len(data))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the problem for a request that is malformed, or that crashed outside every handler."""
        crashed = status >= 500
        refusal = CRASHED if crashed else refusal_of(exc)
        request[KIND] = refusal.kind
        own = cast(web.Request, request)
        if crashed:
            facts = {"request_id": request_id(own), "error": type(exc).__name__, "at": place_of(exc)}
            log.error("request.crashed", extra=facts)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response has been sent")
        return _answer(own, refusal)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log that aiohttp's own code raised, in one line without the exception's text."""
        error = kw.get("exc_info")
        # The rest of a body that nobody has read could not be read: nothing is wrong here.
        if not isinstance(error, RequestPayloadError):
            name = type(error).__name__ if isinstance(error, BaseException) else None
            place = place_of(error) if isinstance(error, BaseException) else None
            log.error("connection.crashed", extra={"error": name, "at": place})

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse | None, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; one that cannot be sent, or that is no response, becomes a problem."""
        if resp is None:
            resp = self.handle_error(request, 500, TypeError("a handler returned None"))
        elif isinstance(resp, web.HTTPException) and resp.status >= 400 and resp.content_type == "text/plain":
            resp = from_aiohttp_error(cast(web.Request, request), resp)
        is_last = self._refused and not self._messages
        if is_last:
            resp.force_close()
        try:
            ended = await super().finish_response(request, resp, start_time)
        except ConnectionError:
            raise
        except Exception as error:
            ended = await super().finish_response(request, self.handle_error(request, 500, error), start_time)
        if self._request_count != self._noted:  # what came behind a request for an upgrade has been parsed
            self._note_requests(0)
        if is_last:
            await self._linger()
        return ended

    def _note_requests(self, size: int) -> None:
        """Look at the requests that have been parsed since the last time, from ``size`` bytes."""
        new = min(self._request_count - self._noted, len(self._messages))
        self._noted = self._request_count
        large = self._header_bytes + size > HEADERS_BYTES
        self._header_bytes, self._header_since = 0, None
        for place in range(len(self._messages) - new, len(self._messages)):
            message, payload = self._messages[place]
            if isinstance(message, _ErrInfo):
                self._note_error()
                return
            if refusal := _refusal_of_parsed(message, large=large):
                while len(self._messages) > place:
                    self._messages.pop()
                self._refuse(refusal)
                return
            self._body = payload

    def _note_error(self) -> None:
        """Refuse what follows a parser's error; if it broke a body, whoever reads that is told, and nobody else."""
        self._refused = True
        if not self._body.is_eof():
            self._messages.pop()
            self._body.set_exception(RequestPayloadError("the body is not encoded as it says"))

    def _note_part(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADERS_BYTES:
            self._refuse(refusals.LARGE_HEADERS)
        elif self._header_since is None:
            self._await_headers()

    def _await_headers(self) -> None:
        self._header_since = self._loop.time()
        # One timer for a connection and not one for each request: it finds out by itself whether it is still needed.
        if self._header_timer is None:
            self._header_timer = self._loop.call_later(HEADER_SECONDS, self._check_headers)

    def _check_headers(self) -> None:
        self._header_timer = None
        if self._header_since is None or self._refused or self.transport is None:
            return
        now = self._loop.time()
        if self._buffer_paused or self._reading_paused:
            self._header_since = now  # it is this process that does not read
        left = self._header_since + HEADER_SECONDS - now
        if left > 0:
            self._header_timer = self._loop.call_later(left, self._check_headers)
        elif self._header_bytes:
            self._refuse(refusals.SLOW_HEADERS)
        else:
            self.force_close()  # it never sent anything, as a browser's spare connection or a probe of the port

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with a problem, once the requests before it have been served, and read nothing more."""
        self._refused = True
        self._request_count += 1
        self._noted = self._request_count
        self._messages.append((_ErrInfo(400, Refused(refusal), refusal.kind), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _linger(self) -> None:
        """Discard what is still being sent until the client hangs up: a reset could destroy the response on its way."""
        if self.transport is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()
            self._lingers = True
            await asyncio.sleep(LINGER_SECONDS)  # canceled when the connection ends
            if self.transport is not None:
                self.transport.abort()  # close() would wait for a client that does not read


class Connections(web.Server):
    """The connections of a process, of which there are at most so many.

    One more ends the oldest one that has sent a part of a request, or else the oldest one between two requests, or else
    the oldest one whose client does not read. If all serve requests, it is answered 503, unless it asks for a path
    that is always served.

    Args:
        made: the server that aiohttp has made for the application.
        most: how many connections may be served.
        always_served: the paths of probes and scrapes.
    """

    def __init__(self, made: web.Server, *, most: int, always_served: Collection[str]) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        self._most = most
        self._always_served = always_served
        self._told_at = float("-inf")

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection; make room for it if there are too many."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._most:
            self._make_room(cast(Connection, handler))

    def _make_room(self, newcomer: Connection) -> None:
        self._tell()
        newcomer._request_handler = self._serve_if_room
        waiting = self._oldest_waiting(newcomer)
        if waiting is not None:
            self._end(waiting)
        elif len(self._connections) > self._most + SPARE_CONNECTIONS:
            self._end(newcomer)

    def _oldest_waiting(self, newcomer: Connection) -> Connection | None:
        found: dict[Awaited, Connection] = {}
        for each in cast(Collection[Connection], self._connections):  # the oldest first
            if each is newcomer or each.ended or (awaited := each.awaits) is None:
                continue
            if awaited == "rest":
                return each
            found.setdefault(awaited, each)
        return found.get("request") or found.get("reading")

    def _end(self, connection: Connection) -> None:
        connection.ended = True
        transport = self._connections[connection]
        connection.force_close()
        transport.abort()  # close() would wait until a client that does not read has read everything

    async def _serve_if_room(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in self._always_served or self._has_room():
            return await self.request_handler(request)
        request[KIND] = refusals.TOO_MANY_CONNECTIONS.kind
        return _answer(cast(web.Request, request), refusals.TOO_MANY_CONNECTIONS)

    def _has_room(self) -> bool:
        open_ones = cast(Collection[Connection], self._connections)
        return len(open_ones) <= self._most or sum(not each.ended for each in open_ones) <= self._most

    def _tell(self) -> None:
        now = self._loop.time()
        if now - self._told_at >= TELL_AGAIN_SECONDS:
            log.warning("connections.full", extra={"most": self._most})
            self._told_at = now


class Runner(web.AppRunner):
    """Runs an application on these connections.

    Args:
        app: the application.
        most: as for ``Connections``.
        always_served: as for ``Connections``.
        options: as for aiohttp's runner.
    """

    __slots__ = ("_always_served", "_most")

    def __init__(self, app: web.Application, *, most: int, always_served: Collection[str], **options: Any) -> None:
        super().__init__(app, **options)
        self._most = most
        self._always_served = always_served

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Connections(made, most=self._most, always_served=self._always_served)


def _refusal_of_parsed(message: RawRequestMessage, *, large: bool) -> Refusal | None:
    """Return why a request that the parser accepts is refused all the same; ``large`` if its headers may be."""
    if message.version[0] < 1:  # HTTP/0.9, which has no headers to answer with
        return refusals.VERSION
    if large and sum(len(name) + len(value) + len(": \r\n") for name, value in message.raw_headers) > HEADERS_BYTES:
        return refusals.LARGE_HEADERS
    return None


def _answer(request: web.Request, refusal: Refusal) -> web.Response:
    """Return the problem with every header that the application's signals would add, for they do not run here."""
    headers = {**SECURITY_HEADERS, CACHE_CONTROL: NOT_STORED, HEADER: request_id(request), "Connection": "close"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    response = problem(request, refusal.status, refusal.code, refusal.detail, headers=headers)
    response.force_close()
    count_refused(refusal.status)
    return response
