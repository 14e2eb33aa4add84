"""A command that SIGTERM ends as Ctrl-C does, with time to undo what it has begun."""

from __future__ import annotations

import asyncio
import signal

SIGTERM_ENDED = 128 + signal.SIGTERM  # what shells report for a command that SIGTERM ended


def cancel_at_sigterm() -> None:
    """From now on, let SIGTERM cancel the current task."""
    command = asyncio.current_task()
    assert command is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, command.cancel)
