"""A run's timeline as server-sent events (WHATWG HTML, section 9.2): past events first, then live ones, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from uuid import UUID

from aiohttp import web

from api.http.problems import FieldProblem, RequestError
from api.http.threads import Threads
from api.streams.followers import Followers
from api.streams.open_streams import Held
from api.streams.readers import Reader
from vm_webapp.errors import NotFound, Unavailable
from vm_webapp.metrics import OPEN_STREAMS
from vm_webapp.runs import queries
from vm_webapp.runs.records import EventRecord
from vm_webapp.runs.states import FINAL_RUN_STATUSES

HEARTBEAT_SECONDS = 15.0
WRITE_SECONDS = 30.0
RETRY_SECONDS = 1.0
EVENTS_AT_A_TIME = 200
LAST_ID_HEADER = "Last-Event-ID"
FINAL_TYPES = frozenset(f"run.{status}" for status in FINAL_RUN_STATUSES)
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # Against proxies that buffer: no-transform keeps them from compressing, the other header is nginx's.
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


def wants_stream(request: web.Request) -> bool:
    """Return whether the caller asks for a live stream."""
    return "text/event-stream" in request.headers.get("Accept", "")


async def stream_events(
    request: web.Request,
    run_id: UUID,
    *,
    after: int,
    followers: Followers,
    threads: Threads,
    as_json: Callable[[EventRecord], str],
    held: Held,
) -> web.StreamResponse:
    """Stream the run's events after a position, as they occur, until the run's final event.

    Args:
        request: the request; its ``Last-Event-ID`` takes precedence over ``after``.
        run_id: the run.
        after: the id of the last event that the caller has. If the run has no such event, all are sent.
        followers: the registry that wakes this stream when the run changes.
        threads: the pool on which events are read.
        as_json: returns the JSON of an event.
        held: ends the stream when the caller's key is no longer in force.

    Returns:
        The stream, ended; or 204 if the caller already has the run's final event. A browser then stops reconnecting.

    Raises:
        NotFound: there is no such run.
        RequestError: ``Last-Event-ID`` is not a number.
    """
    position = _read_last_id(request, after)
    # Registered before the first read: an event that is committed between the two still wakes the reader.
    async with followers.follow(run_id) as reader:
        held.on_end(reader, partial(abort, request))
        newest = await threads.run(lambda: queries.newest_event(run_id))
        # None if a crash of PostgreSQL, or a restored backup, has undone what the caller saw: it then gets everything.
        reader.last = await threads.run(lambda: queries.find_event(run_id, position))
        if reader.last == newest and newest.type in FINAL_TYPES:
            return web.Response(status=204)
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        if request.method != "HEAD":
            with OPEN_STREAMS.track_inprogress():
                await _Stream(request, response, run_id, reader, threads, as_json).run()
        return response


def _read_last_id(request: web.Request, after: int) -> int:
    given = request.headers.get(LAST_ID_HEADER)
    if given is None:
        return after
    if not (given.isascii() and given.isdecimal() and len(given) <= 18):
        raise _refusal("is not the id of an event")
    return int(given)


def _refusal(message: str) -> RequestError:
    wrong = FieldProblem(header=LAST_ID_HEADER, message=message)
    return RequestError(422, "invalid_header", f"{LAST_ID_HEADER}: {message}", errors=[wrong])


def progress_event(notice: str) -> bytes:
    """Return a piece of text that the run's model wrote, given as JSON, as an event without an id."""
    return b"event: stage.progress\ndata: " + notice.encode() + b"\n\n"


def abort(request: web.Request) -> None:
    """Close the connection of a client that has left or does not read."""
    # Unlike close(), abort() discards the data that the client has not taken.
    if request.transport is not None:
        request.transport.abort()


class _Stream:
    """The stream to one reader."""

    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        run_id: UUID,
        reader: Reader,
        threads: Threads,
        as_json: Callable[[EventRecord], str],
    ) -> None:
        self._request = request
        self._response = response
        self._run_id = run_id
        self._reader = reader
        self._threads = threads
        self._as_json = as_json
        self._unread = False  # whether the last read failed, because the database was unavailable

    async def run(self) -> None:
        """Send the events after the reader's last one until the run ends, the process stops, or the client leaves."""
        try:
            ended = await self._send_new()
            while not (ended or self._reader.closed):
                came = await self._reader.wait(RETRY_SECONDS if self._unread else HEARTBEAT_SECONDS)
                # Keeps proxies from closing an idle connection, and finds out when the client has gone.
                if not came and not self._unread:
                    await self._write(b": still here\n\n")
                for notice in self._reader.take_notices():
                    await self._write(progress_event(notice))
                if (self._reader.take_change() or self._unread) and not self._reader.closed:
                    ended = await self._send_new()
            await self._response.write_eof()
        except (TimeoutError, ConnectionError):
            abort(self._request)  # the client has left, or does not read

    async def _send_new(self) -> bool:
        """Send every event after the reader's last one; return whether the run has ended, or is gone."""
        self._unread = False
        while True:
            try:
                events = await self._threads.run(self._read_new)
            except Unavailable:
                self._unread = True
                return False
            except NotFound:
                return True
            for event in events:
                await self._write(f"id: {event.id}\nevent: {event.type}\ndata: {self._as_json(event)}\n\n".encode())
                self._reader.last = event
            if len(events) < EVENTS_AT_A_TIME:
                break
        # A failed run may have been retried: a final event ends the stream only if it is the last one.
        return self._reader.last is not None and self._reader.last.type in FINAL_TYPES

    def _read_new(self) -> list[EventRecord]:
        # With the time: an event that a crash undid, and another that got its id since, are not the same.
        last = self._reader.last
        after, seen_at = (last.id, last.created_at) if last else (0, None)
        return queries.list_events(self._run_id, after=after, seen_at=seen_at, limit=EVENTS_AT_A_TIME)

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(WRITE_SECONDS):
            await self._response.write(data)
