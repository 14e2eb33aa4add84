"""What calls of a model could cost at least: an asyncio task per slot, which claims a run, calls and finishes it.

uv run python -m benchmarks.calls_by_hand DATABASE_URL MODEL_URL SLOTS
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from psycopg2.extensions import connection

from benchmarks.limit import MINIMAL, Loop, prepared

CONNECTIONS = 8
# Over the minimal tables, with one stage a run: one commit claims it, and one stores the text and ends the run.
FILL_ONE_CALL = """
WITH made AS (
    INSERT INTO minimal.runs (id, status, request) SELECT uuidv7(), 'queued', 'a request' FROM generate_series(1, %s)
    RETURNING id)
INSERT INTO minimal.stages (id, run_id, position, status) SELECT uuidv7(), id, 1, 'pending' FROM made
"""
ONE_CALL = Loop(f"""{MINIMAL.prepare}
PREPARE finish_run (uuid, uuid, uuid, text) AS
WITH stored AS (INSERT INTO minimal.artifacts (id, stage_id, content) VALUES ($3, $2, $4)),
     said AS (INSERT INTO minimal.events (run_id, type) VALUES ($1, 'run.completed')),
     stage AS (UPDATE minimal.stages SET status = 'completed' WHERE id = $2)
UPDATE minimal.runs SET status = 'completed', finished_at = clock_timestamp() WHERE id = $1;
""")


class Database:
    """A few connections, each used by one thread at a time."""

    def __init__(self, url: str) -> None:
        self._free: queue.Queue[connection] = queue.Queue()
        self._threads = ThreadPoolExecutor(CONNECTIONS)
        for _ in range(CONNECTIONS):
            self._free.put(prepared(url, ONE_CALL))

    async def run(self, sql: str, *values: str) -> tuple[Any, ...] | None:
        """Run a statement; return its first row, if it has any."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, sql, values)

    def _run(self, sql: str, values: tuple[str, ...]) -> tuple[Any, ...] | None:
        session = self._free.get()
        try:
            with session.cursor() as cursor:
                cursor.execute(sql, values or None)
                return cursor.fetchone() if cursor.description else None
        finally:
            self._free.put(session)


async def complete(http: aiohttp.ClientSession, url: str) -> str:
    """Call the model, streamed as the product does it, and return the text."""
    body = {
        "model": "a-model",
        "messages": [{"role": "user", "content": "a prompt"}],
        "max_tokens": 1000,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    text = ""
    async with http.post(f"{url}/chat/completions", json=body, headers={"Authorization": "Bearer sk-test"}) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
    return text


async def drain(database_url: str, model_url: str, slots: int) -> None:
    """Carry every queued run to its end, so many at a time."""
    database = Database(database_url)

    async def slot(http: aiohttp.ClientSession) -> None:
        while claimed := await database.run(ONE_CALL.claim):
            run, stage = claimed
            text = await complete(http, model_url)
            await database.run("EXECUTE finish_run (%s, %s, %s, %s)", run, stage, str(uuid.uuid4()), text)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(slot(http) for _ in range(slots)))


def main() -> None:
    """Drain the queue, and say so."""
    database_url, model_url, slots = sys.argv[1:]
    asyncio.run(drain(database_url, model_url, int(slots)))


if __name__ == "__main__":
    main()
