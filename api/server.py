"""Listens, and stops listening without cutting anybody off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from vm_webapp.listening import BACKLOG, FINISH_SECONDS, listen


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    on_started: Callable[[str], None],
    sockets: Sequence[socket.socket] = (),
) -> None:
    """Serve until ``stop`` is set; requests under way get ten seconds to finish.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port, 0 for any free one.
        stop: set to end.
        on_started: called with the base URL once requests are answered.
        sockets: those that listen on this address already; they are closed at the end.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=FINISH_SECONDS, handler_cancellation=True)
    await runner.setup()
    try:
        for each in sockets or listen(host, port):
            await web.SockSite(runner, each, backlog=BACKLOG).start()
        bound = runner.addresses[0][1]
        on_started(f"http://{f'[{host}]' if ':' in host else host}:{bound}")
        await stop.wait()
    finally:
        await runner.cleanup()
