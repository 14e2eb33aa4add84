"""Logs what goes wrong on an asyncio loop outside every caller: a task's exception that nobody awaits, a full process.

asyncio's own handler logs the text of the exception and what the loop knows of it, such as the arguments of a callback;
either may quote a request or a key. It also repeats that no connection could be accepted a hundred times a second.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from typing import Any

from vm_webapp.logs import place_of

log = logging.getLogger(__name__)

OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
INCIDENT_SECONDS = 60.0
WORDS = re.compile(r"[^(<\[{'\"]*")  # asyncio's messages begin with words; what it quotes comes in brackets


class LoopErrors:
    """The handler of a loop's errors, for ``loop.set_exception_handler``: one line for each, without its text.

    That connections cannot be accepted is one incident for as long as it happens again within a minute.
    """

    def __init__(self) -> None:
        self._failed_at = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error."""
        error, message = context.get("exception"), str(context.get("message", ""))
        if isinstance(error, OSError) and error.errno in OUT_OF_FILES and message.startswith("socket.accept"):
            self._log_accept(loop.time(), error)
            return
        future = context.get("future") or context.get("task")
        facts = {
            "what": found[0].strip() if (found := WORDS.match(message)) else "",
            "error": type(error).__name__ if error else None,
            "at": place_of(error),
            "task": future.get_name() if isinstance(future, asyncio.Task) else None,
        }
        log.error("loop.error", extra=facts)

    def _log_accept(self, now: float, error: OSError) -> None:
        if now - self._failed_at > INCIDENT_SECONDS:
            log.error("accept.failed", extra={"error": os.strerror(error.errno or 0)})
        self._failed_at = now
