"""What POST /runs could cost at least: an aiohttp handler with one prepared statement, and nothing around it.

uv run python -m benchmarks.bare_api minimal|own|notifying
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg2
from aiohttp import web
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection

THREADS = 8
MINIMAL = """
PREPARE make (text, text, text) AS
WITH run AS (INSERT INTO minimal.runs (id, status, request) VALUES (uuidv7(), 'queued', $2) RETURNING id, created_at),
     stages AS (INSERT INTO minimal.stages (id, run_id, position, status)
                SELECT uuidv7(), run.id, position, 'pending' FROM run, generate_series(1, 3) AS position),
     said AS (INSERT INTO minimal.events (run_id, type) SELECT id, 'run.created' FROM run)
SELECT id::text, created_at::text FROM run, (SELECT $1, $3) AS unused
"""
# It wakes who listens for it, as part of its commit.
NOTIFYING = MINIMAL.replace("FROM run, (SELECT", ", pg_notify('made', id::text) FROM run, (SELECT")
# The rows and bytes that the product writes for the same request.
OWN = """
PREPARE make (text, text, text) AS
WITH run AS (INSERT INTO runs (id, workflow, status, request, auto_approve, workflow_digest, created_by, start_tag)
             VALUES (uuidv7(), $1, 'queued', $2, true, $3::bytea, 'api', 1) RETURNING id, created_at),
     made AS (INSERT INTO stages (id, run_id, position, key, title, status, priority, requires_approval, needs_model,
                                  start_tag, queued_at, available_at)
              SELECT uuidv7(), run.id, position, 'stage' || position, 'A stage',
                     CASE position WHEN 1 THEN 'queued' ELSE 'pending' END, 0, false, true, 1,
                     CASE position WHEN 1 THEN now() END, CASE position WHEN 1 THEN now() END
                FROM run, generate_series(1, 3) AS position),
     said AS (INSERT INTO events (run_id, type, stage, actor, data)
              SELECT id, type, NULL, 'api', '{}' FROM run, unnest(ARRAY['run.created', 'stage.queued']) AS type)
SELECT id::text, created_at::text FROM run
"""


def main() -> None:
    """Serve on a free port, which is printed, until SIGTERM."""
    prepare = {"minimal": MINIMAL, "own": OWN, "notifying": NOTIFYING}[sys.argv[1]]
    digest = os.environ["BENCH_DIGEST"]
    free = sessions_with(prepare)

    def insert(workflow: str, request: str) -> tuple[str, str]:
        session = free.get()
        try:
            with session.cursor() as sql:
                sql.execute("EXECUTE make (%s, %s, %s)", (workflow, request, digest))
                (row,) = sql.fetchall()
                return row[0], row[1]
        finally:
            free.put(session)

    threads = ThreadPoolExecutor(THREADS)

    async def create(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        loop = asyncio.get_running_loop()
        id, created_at = await loop.run_in_executor(threads, insert, body["workflow"], body["request"])
        return web.json_response({"id": id, "created_at": created_at, "status": "queued"}, status=201)

    app = web.Application()
    app.router.add_post("/api/v2/runs", create)
    asyncio.run(serve(app))


def sessions_with(prepare: str) -> queue.Queue[connection]:
    """Return a connection in autocommit mode for each thread, which has a statement prepared."""
    free: queue.Queue[connection] = queue.Queue()
    for _ in range(THREADS):
        session = psycopg2.connect(os.environ["BENCH_DB_URL"])
        session.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with session.cursor() as sql:
            sql.execute(prepare)
        free.put(session)
    return free


async def serve(app: web.Application, port: int = 0) -> None:
    """Serve without a log of requests on a port, by default on any free one; it is printed."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"listening on {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
