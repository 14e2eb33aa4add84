"""Serves the application, and stops without cutting off requests in flight."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from api.http.connections import Runner, most_connections
from api.request_log import RequestLog, log
from api.routes.metrics import read_metrics
from api.routes.table import ROUTES
from api.services import SERVICES
from vm_webapp.listening import BACKLOG, FINISH_SECONDS, listen
from vm_webapp.loop_errors import LoopErrors
from vm_webapp.loop_lag import LOOP_LAG

# Whoever watches the service gets a response also while all its connections are busy.
ALWAYS_SERVED = frozenset(
    {route.full_path for route in ROUTES if route.path.startswith("/health/")} | {read_metrics.full_path}
)


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    on_started: Callable[[str], None],
    sockets: Sequence[socket.socket] = (),
) -> None:
    """Serve until ``stop`` is set; requests in flight get ten seconds to finish.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port, 0 for any free one.
        stop: set to end.
        on_started: called with the base URL once the server accepts requests.
        sockets: sockets that already listen on this address; they are closed at the end.

    Raises:
        ConfigurationError: the server cannot listen on the address.
    """
    # Without handler_cancellation a handler continues after its client has disconnected, such as a wait of 30 s.
    runner = Runner(
        app,
        most=most_connections(other_files=app[SERVICES].settings.api_connections),
        always_served=ALWAYS_SERVED,
        access_log_class=RequestLog,
        access_log=log,
        shutdown_timeout=FINISH_SECONDS,
        handler_cancellation=True,
    )
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(LoopErrors())
    LOOP_LAG.watch(loop)
    await runner.setup()
    try:
        for each in sockets or listen(host, port):
            await web.SockSite(runner, each, backlog=BACKLOG).start()
        bound = runner.addresses[0][1]
        on_started(f"http://{f'[{host}]' if ':' in host else host}:{bound}")
        await stop.wait()
    finally:
        await runner.cleanup()
        loop.set_exception_handler(before)
