"""Configures logging, libraries included: one line per record, as JSON in managed mode and as text on a laptop."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import structlog

log = logging.getLogger(__name__)

SHOWN_CALLS = 4


def configure_logging(level: str, *, json: bool) -> None:
    """Send every record of the process to stderr in one format.

    Args:
        level: name of the lowest level shown, such as ``INFO``.
        json: one JSON object per line (for a platform) instead of coloured text (for a person).
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        # structlog's default formatter prints the local variables of every frame, keys and passwords included.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log every request and message at INFO, which our own records already cover; Peewee logs every statement at
    # DEBUG, with its values, which are people's texts.
    for noisy in ("httpx", "httpcore", "dramatiq", "aiohttp.access", "yoyo", "asyncio", "peewee"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def logged_with(**facts: object) -> AbstractContextManager[None]:
    """Add these facts to every record that this thread logs during the block, and the tasks that it starts."""
    return structlog.contextvars.bound_contextvars(**facts)


def place_of(error: BaseException | None) -> str:
    """Return where an error was raised: the innermost calls, without its text, which may quote a secret."""
    frames = traceback.extract_tb(error.__traceback__)[-SHOWN_CALLS:] if error else ()
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("process.crashed", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is None or issubclass(crash.exc_type, SystemExit):
        return
    thread = crash.thread.name if crash.thread else None
    trace = (crash.exc_type, crash.exc_value, crash.exc_traceback)
    log.critical("thread.crashed", extra={"thread_name": thread}, exc_info=trace)
