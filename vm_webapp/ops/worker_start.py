"""Why the worker that ``serve`` keeps cannot start: a file in the workspace folder.

A worker that ends before its first heartbeat leaves nothing in the database. ``serve`` and its worker share a machine,
and so do its API processes, however many, and the doctor that a person runs there.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vm_webapp.errors import ConfigurationError, VMError
from vm_webapp.text import first_line, shortened, single_line, storable

log = logging.getLogger(__name__)

FILE_NAME = ".worker-start-error.json"
EXIT_WRONG_CONFIGURATION = 2


def start_error_file(workspace_root: Path) -> Path:
    """Return the path of the file."""
    return workspace_root.resolve() / FILE_NAME


@contextmanager
def noting_start(path: Path | None) -> Iterator[Callable[[], None]]:
    """Write down the error that ends a worker before it has started; with None nothing is written.

    Yields:
        To be called once the worker has started: it removes the file, and a later error is none of its start.
    """
    has_started = path is None

    def note_started() -> None:
        nonlocal has_started
        has_started = True
        if path is not None:
            clear_start_error(path)

    try:
        yield note_started
    except (Exception, SystemExit) as error:
        if path is not None and not has_started:
            _write(path, error)
        raise


def clear_start_error(path: Path) -> None:
    """Remove the file, if there is one that can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("worker_start.not_cleared", extra={"error": str(error)})


def read_start_error(path: Path) -> str | None:
    """Return why the worker cannot start, and what to do after the last colon; None where nothing is known.

    What a ``serve`` that has ended left behind is not counted.
    """
    try:
        noted = json.loads(path.read_bytes())
        said, parent, is_restarted = str(noted["error"]), int(noted["parent"]), bool(noted["is_restarted"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _is_running(parent):
        return None
    todo = "correct that, and serve starts it by itself" if is_restarted else "correct that and start serve again"
    return f"the worker that serve keeps cannot start: {said}: {todo}"


def _write(path: Path, error: BaseException) -> None:
    cause = error.__cause__ if isinstance(error, SystemExit) and error.__cause__ is not None else error
    said = first_line(cause) if isinstance(cause, VMError) else f"{type(cause).__name__}: {first_line(cause)}"
    noted = {
        "error": shortened(single_line(storable(said))),
        "parent": os.getppid(),
        "is_restarted": not _is_wrong_configuration(error),
    }
    written = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(noted), encoding="utf-8")
        written.replace(path)
    except OSError as failure:  # nothing but the log has the reason then
        log.warning("worker_start.not_noted", extra={"error": str(failure)})


def _is_wrong_configuration(error: BaseException) -> bool:
    """Return whether the process ends with the exit code after which ``serve`` does not restart it."""
    if isinstance(error, SystemExit):
        return error.code == EXIT_WRONG_CONFIGURATION
    return isinstance(error, ConfigurationError)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
