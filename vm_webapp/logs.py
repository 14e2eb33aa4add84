"""Configures logging, libraries included: one line per record, as JSON in managed mode and as text on a laptop.

Each record has the facts of its context: of the process, of the request or the attempt that a thread or a task works
on, and the id of its trace.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from io import StringIO
from json import JSONEncoder
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from vm_webapp.text import escaped
from vm_webapp.tracing.spans import current_span

# Where rich is installed structlog imports it, 6 MB of every process, for a traceback that is not the one shown here.
# Python takes None for a module that is not there; one that is imported already stays.
if "rich" in sys.modules:
    import structlog
else:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]

if TYPE_CHECKING:
    from structlog.typing import ExcInfo

log = logging.getLogger(__name__)

SHOWN_CALLS = 4
_of_process: dict[str, object] = {}
_OF_EVERY_RECORD = frozenset(logging.makeLogRecord({}).__dict__)
_encode = JSONEncoder(default=repr).encode


def configure_logging(level: str, *, json: bool) -> None:
    """Send every record of the process to stderr in one format.

    Args:
        level: name of the lowest level shown, such as ``INFO``.
        json: one JSON object per line (for a platform) instead of coloured text (for a person).
    """
    # No line shows where in the code a record was made, and by which thread: finding it out takes longer than the rest.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_process_and_trace,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        else [_escape, structlog.dev.ConsoleRenderer(colors=_wants_colors(), exception_formatter=_write_traceback)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = _JsonLines if json else structlog.stdlib.ProcessorFormatter
    handler.setFormatter(
        formatter(
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
    sys.unraisablehook = _log_unraisable
    logging.captureWarnings(True)


class _JsonLines(structlog.stdlib.ProcessorFormatter):
    """Formats a record without an exception as its processors would, in a third of the time: each request has one."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.stack_info or "_logger" in record.__dict__:  # the latter is structlog's own
            return super().format(record)
        event: dict[str, Any] = {"event": record.getMessage(), **structlog.contextvars.get_contextvars()}
        _add_process_and_trace(None, "", event)
        event |= {"logger": record.name, "level": record.levelname.lower()}
        event |= {name: value for name, value in record.__dict__.items() if name not in _OF_EVERY_RECORD}
        event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return _encode(event)


def logged_with(**facts: object) -> AbstractContextManager[None]:
    """Add these facts to every record that this thread logs during the block, and the tasks that it starts."""
    return structlog.contextvars.bound_contextvars(**facts)


def log_with(**facts: object) -> None:
    """Add these facts to every record that this task logs from now on, and the tasks and calls that it starts."""
    structlog.contextvars.bind_contextvars(**facts)


@contextmanager
def process_logs_with(**facts: object) -> Iterator[None]:
    """Add these facts to every record of this process during the block, whichever thread logs it."""
    _of_process.update(facts)
    try:
        yield
    finally:
        for name in facts:
            _of_process.pop(name, None)


def place_of(error: BaseException | None) -> str:
    """Return where an error was raised: the innermost calls, without its text, which may quote a secret."""
    frames = traceback.extract_tb(error.__traceback__)[-SHOWN_CALLS:] if error else ()
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))


def _add_process_and_trace(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # A copy: a process that begins or ends changes them while its other threads log.
    for name, fact in _of_process.copy().items():
        event.setdefault(name, fact)
    if (span := current_span()) is not None:
        event.setdefault("trace_id", span.trace_id)
    return event


def _wants_colors() -> bool:
    # https://no-color.org
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _escape(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # Models, servers and clients wrote parts of these texts: they must neither forge a line nor command a terminal.
    return {name: escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _write_traceback(out: TextIO, error: ExcInfo) -> None:
    # Not structlog's default formatter, which prints the local variables of every frame, keys and passwords included.
    plain = StringIO()
    structlog.dev.plain_traceback(plain, error)
    # Indented: an error's text may have several lines, and none may look like a record.
    out.writelines(f"\n  {escaped(line)}" for line in plain.getvalue().strip().splitlines())


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


def _log_unraisable(error: sys.UnraisableHookArgs) -> None:
    # Raised where nobody can catch it, as in a finalizer; Python would print a traceback of many lines.
    if error.exc_value is not None:
        trace = (error.exc_type, error.exc_value, error.exc_traceback)
        log.error("process.unraisable", extra={"where": repr(error.object)}, exc_info=trace)
