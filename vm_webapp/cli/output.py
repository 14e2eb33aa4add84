"""What a command writes to its standard streams, whatever they can take.

A stream may know fewer characters than we write, its reader may leave in the middle (``doctor | head -1``), and a
disk that it goes to may be full.
"""

from __future__ import annotations

import codecs
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vm_webapp.errors import VMError

READER_LEFT = 128 + signal.SIGPIPE  # what shells report for a command that SIGPIPE ended
MODULE = "python -m vm_webapp"
INSTEAD = {
    "✓": "ok",
    "✗": "x",
    "→": "->",
    "←": "<-",
    "…": "...",
    "·": "-",
    "•": "*",
    "–": "-",
    "—": "-",
    **dict.fromkeys("“”„«»", '"'),
    **dict.fromkeys("‘’‚", "'"),
    **dict.fromkeys("─━═╴╶╸╺", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇╈╞╡╪", "+"),
}


class OutputFailed(VMError):
    """What a command wrote could not be stored."""

    code = "output_failed"


def prepare_streams() -> None:
    """Let standard output and error take every character: those that their encoding lacks become similar ones.

    Streams that are closed (``2>&-``) become ones to and from nothing.
    """
    codecs.register_error("readable", _readable)
    for name in ("stdin", "stdout", "stderr"):
        # Python has None for them. Their numbers are taken too, or a socket of ours would be a child's output.
        if getattr(sys, name) is None:
            nothing = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(nothing.fileno(), True)
            setattr(sys, name, nothing)
    for stream in (sys.stdout, sys.stderr):
        # A test's stand-in may have no such method.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="readable")


@contextmanager
def ending_quietly() -> Iterator[None]:
    """End the block without a word where the reader of its output has left.

    Raises:
        SystemExit: the reader of standard output or error has left.
        OutputFailed: standard output cannot be written for another reason, such as a full disk.
    """
    try:
        try:
            yield
        finally:
            # Here and not at the interpreter's exit, which would print "Exception ignored".
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise SystemExit(READER_LEFT) from None
    except OSError as error:
        # An error of the stream itself names no file, and is met again.
        if error.filename is not None or not _output_fails():
            raise
        _discard_output()
        raise OutputFailed(f"standard output cannot be written: {error.strerror}") from None


def as_called(text: str) -> str:
    """Return a text whose commands begin as this one was begun, so that they can be pasted.

    Args:
        text: text with commands that begin with ``python -m vm_webapp``.
    """
    return text.replace(MODULE, _own_beginning())


def announce(text: str) -> None:
    """Print what a service says of itself, at once; nobody need read it."""
    try:
        print(as_called(text), flush=True)
    except OSError:
        _discard_output()


def _own_beginning() -> str:
    program, *rest = sys.orig_argv
    if rest[:2] == ["-m", "vm_webapp"]:
        named = [program, "-m", "vm_webapp"]
    elif Path(sys.argv[0]).name == "vm-webapp":
        named = [sys.argv[0]]
    else:  # called by a program, such as a test
        return MODULE
    if os.environ.get("UV_RUN_RECURSION_DEPTH"):
        # uv starts the program by its full path, which is not what was typed.
        named = ["uv", "run", Path(named[0]).name, *named[1:]]
    return shlex.join(named)


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    # What replaces a character must be known to every encoding that standard streams have.
    return "".join(INSTEAD.get(character, "?") for character in wanted), error.end


def _output_fails() -> bool:
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _discard_output() -> None:
    # Both streams: with ``2>&1 | head`` neither has a reader, and what is buffered is flushed again at exit.
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nothing, stream.fileno())
        os.close(nothing)
