"""What a read could cost at least: an aiohttp handler with one prepared statement, and nothing around it.

The statement returns the bytes of the response as they are stored, by the path of the request.

uv run python -m benchmarks.bare_reads [--port N]
"""

from __future__ import annotations

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from benchmarks.bare_api import THREADS, serve, sessions_with

STORED_RESPONSES = """
DROP SCHEMA IF EXISTS minimal CASCADE;
CREATE SCHEMA minimal;
CREATE TABLE minimal.responses (path text PRIMARY KEY, body text NOT NULL);
"""
READ = "PREPARE read (text) AS SELECT body FROM minimal.responses WHERE path = $1"


def main() -> None:
    """Serve until SIGTERM; print the port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    free = sessions_with(READ)

    def find(path: str) -> str:
        session = free.get()
        try:
            with session.cursor() as sql:
                sql.execute("EXECUTE read (%s)", (path,))
                ((body,),) = sql.fetchall()
                return str(body)
        finally:
            free.put(session)

    threads = ThreadPoolExecutor(THREADS)

    async def read(request: web.Request) -> web.Response:
        body = await asyncio.get_running_loop().run_in_executor(threads, find, request.path_qs)
        return web.Response(text=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", read)
    asyncio.run(serve(app, port))


if __name__ == "__main__":
    main()
