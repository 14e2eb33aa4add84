"""A client of event streams, which reads what a browser's EventSource would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.api.client import Api


@dataclass(frozen=True)
class Message:
    """One server-sent event; ``id`` is None where it has none."""

    id: int | None
    event: str
    data: dict[str, Any]


class EventSource:
    """An open stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, *, seconds: float = 10.0) -> Message | None:
        """Return the next message, None when the stream has ended. Heartbeats are passed over."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(seconds):
            while raw := await self.response.content.readline():
                line = raw.decode().rstrip("\n")
                if not line and "data" in fields:
                    id = int(fields["id"]) if "id" in fields else None
                    return Message(id, fields["event"], json.loads(fields["data"]))
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
        return None

    async def rest(self, *, seconds: float = 10.0) -> list[Message]:
        """Return every message until the stream ends."""
        found = []
        while message := await self.next(seconds=seconds):
            found.append(message)
        return found


@asynccontextmanager
async def open_stream(api: Api, run_id: str, *, last_id: str | None = None) -> AsyncIterator[EventSource]:
    """Follow a run for the block."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id is not None else {})
    async with api.session.get(f"{api.base_url}/api/v2/runs/{run_id}/events", headers=headers) as response:
        yield EventSource(response)
