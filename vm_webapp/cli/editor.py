"""Opens a file in the person's editor."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vm_webapp.errors import ConfigurationError

_REMEDY = "set EDITOR to another"
EDITORS = ("sensible-editor", "nano", "vi")
SECONDS_TO_END = 5.0


async def open_in_editor(file: Path) -> int:
    """Open a file in the editor of ``VISUAL`` or ``EDITOR``, and wait for its end.

    Returns:
        Its exit code; negative if a signal ended it, as in ``subprocess``.

    Raises:
        ConfigurationError: there is no editor, or it cannot be started.
        KeyboardInterrupt: Ctrl-C ended the editor.
    """
    command = _command()
    with _sigint_left_to_the_editor():
        try:
            process = await asyncio.create_subprocess_exec(*command, str(file))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"the editor {shlex.join(command)} cannot be run: {reason}; {_REMEDY}") from error
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
    if code in (-signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    return code


def _command() -> list[str]:
    for name in ("VISUAL", "EDITOR"):
        text = os.environ.get(name, "")
        try:
            # Split, because it may hold arguments, such as "code --wait".
            if command := shlex.split(text):
                return command
        except ValueError as error:
            raise ConfigurationError(f"{name} is not a command: {text}: {str(error).lower()}; {_REMEDY}") from error
    found = next(filter(shutil.which, EDITORS), None)
    if found is None:
        raise ConfigurationError("no editor is known: set EDITOR")
    return [found]


@contextmanager
def _sigint_left_to_the_editor() -> Iterator[None]:
    # Ctrl-C goes to both processes, and Emacs sends it for Ctrl-G. Not SIG_IGN, which the editor would inherit.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), SECONDS_TO_END)
        except TimeoutError:
            process.kill()
