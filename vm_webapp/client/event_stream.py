"""A run's timeline, live."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from vm_webapp.client.connection import Connection, path_of
from vm_webapp.client.errors import Unreadable
from vm_webapp.client.shapes import Event, Writing
from vm_webapp.sse import EventReader


class EventStream:
    """The stream of one run, over as many connections as it takes: each goes on behind the last event of those before.

    Args:
        connection: the way to the API.
        run_id: the run.
    """

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._connection = connection
        self._path = path_of("runs", run_id, "events")
        self._reader = EventReader()

    @property
    def last_id(self) -> str:
        """The id of the last event that was told, empty before the first."""
        return self._reader.last_id

    @property
    def retry_seconds(self) -> float | None:
        """How long the server asks to wait before the next connection, None where it has not asked."""
        return self._reader.retry_seconds

    async def read(self) -> AsyncGenerator[Event | Writing, None]:
        """Connect, and yield what is told, until the run's final event or until the server ends it.

        Events have a ``type``, what is written has none.

        Raises:
            ApiError: it was refused, it broke off, or it is not one of this API.
        """
        self._reader = EventReader(self._reader.last_id)
        async with aclosing(self._connection.events(self._path, self._reader)) as events:
            async for event in events:
                yield _read_notice(event.data)


def _read_notice(data: str) -> Event | Writing:
    try:
        notice = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    if not isinstance(notice, dict):
        raise Unreadable(f"{type(notice).__name__} in place of an object")
    return cast(Event | Writing, notice)
