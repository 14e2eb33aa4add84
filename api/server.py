"""Listens, and stops listening without cutting anybody off."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from aiohttp import web

from vm_webapp.errors import ConfigurationError

FINISH_SECONDS = 10.0


async def serve(
    app: web.Application, host: str, port: int, *, stop: asyncio.Event, on_started: Callable[[str], None]
) -> None:
    """Serve until ``stop`` is set; requests under way get ten seconds to finish.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port, 0 for any free one.
        stop: set to end.
        on_started: called with the base URL once requests are answered.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=FINISH_SECONDS, handler_cancellation=True)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            # asyncio puts the address into the text of the error; the number has the plain reason.
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {reason}; choose another with --host and --port"
            ) from error
        bound = runner.addresses[0][1]
        on_started(f"http://{f'[{host}]' if ':' in host else host}:{bound}")
        await stop.wait()
    finally:
        await runner.cleanup()
