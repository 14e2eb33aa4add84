"""The live timeline of a run, over server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from vm_webapp.client.connection import Connection, path_of
from vm_webapp.client.errors import MalformedStream
from vm_webapp.client.shapes import Event, Writing
from vm_webapp.sse import EventReader


class EventStream:
    """The event stream of one run. Each connection resumes after the last event of the previous one.

    Args:
        connection: the connection to the API.
        run_id: the run.
    """

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._connection = connection
        self._path = path_of("runs", run_id, "events")
        self._reader = EventReader()

    @property
    def last_id(self) -> str:
        """The id of the last event that was received, empty before the first."""
        return self._reader.last_id

    @property
    def retry_seconds(self) -> float | None:
        """How long the server asks clients to wait before they reconnect, None if it has not asked."""
        return self._reader.retry_seconds

    async def read(self) -> AsyncGenerator[Event | Writing, None]:
        """Connect, and yield events and pieces of text until the server ends the stream.

        Events have a ``type``; a piece of an artifact that the model is writing has none.

        Raises:
            ApiError: the server refused the stream, the connection broke, or the stream is not one of this API.
        """
        # A new reader for each connection, because the old one may hold half an event.
        self._reader = EventReader(self._reader.last_id)
        async with aclosing(self._connection.events(self._path, self._reader)) as events:
            async for event in events:
                yield _read_notice(event.data)


def _read_notice(data: str) -> Event | Writing:
    try:
        notice = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedStream(f"{type(error).__name__}: {error}") from error
    if not isinstance(notice, dict):
        raise MalformedStream(f"{type(notice).__name__} in place of an object")
    return cast(Event | Writing, notice)
