"""Asks questions on a terminal, so that nothing answers one but what is typed after it was shown."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from rich.cells import get_character_cell_size
from rich.console import Console
from rich.text import Text

from vm_webapp.cli.keys_typed import Key, KeyReader
from vm_webapp.cli.terminal import say, visible

# A terminal without bracketed paste sends a pasted text like keys, but faster than anybody types.
PASTE_PAUSE_SECONDS = 0.15
BRACKETED_PASTE_ON, BRACKETED_PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
MAX_SHOWN = 60
_LAST_WORD = re.compile(r"\S*\s*\Z")
Attributes = list[int | list[bytes | int]]


class Prompt:
    """Reads answers key by key: the kernel's own lines end at 4095 bytes, and know nothing of pasted text.

    Ctrl-C stays a signal, so that it ends the command at once.

    Attributes:
        typed: what has been typed in answer to the current question.

    Args:
        console: the console to ask on; the answers come from standard input.
    """

    def __init__(self, console: Console) -> None:
        self.typed = ""
        self._console = console
        self._descriptor = sys.stdin.fileno()
        self._reader = KeyReader()
        self._keys: deque[Key] = deque()
        self._usual: Attributes | None = None
        self._question: Text | None = None
        self._start = 0  # the column at which the answer begins

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Read keys during the block; the terminal is as before after it."""
        self._usual = termios.tcgetattr(self._descriptor)
        try:
            with self._reading_keys():
                yield
        finally:
            self._usual = None

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Give the terminal to another program during a block within ``opened``."""
        self._leave()
        try:
            yield
        finally:
            self._enter()

    async def ask(self, question: Text) -> str:
        """Return the line that is typed after the question was shown. What was typed before is dropped, and said so.

        Raises:
            EOFError: Ctrl-D was typed, or the terminal is gone.
        """
        await self._drop_keys()
        with self._answering(question):
            while (key := await self._next()).kind != "enter":
                if key.kind == "paste":
                    self._write("\n")
                    say(self._console, "A pasted text decides nothing here: type a letter, then Enter.")
                    self._show()
                else:
                    self._edit(key)
            return self.typed

    async def ask_text(self, question: Text) -> str:
        """Return a text of one or more lines: what is pasted belongs to it as a whole, and Enter ends it.

        Raises:
            EOFError: Ctrl-D was typed at its beginning, or the terminal is gone.
        """
        with self._answering(question):
            while not await self._ends_text(key := await self._next()):
                if key.kind in ("enter", "new line"):
                    self._insert("\n")
                elif key.kind == "paste":
                    self._insert(key.text)
                else:
                    self._edit(key)
            return self.typed

    async def drop_rest(self) -> None:
        """Drop what was typed after the last answer, so that it does not reach the shell as a command."""
        with suppress(EOFError):
            await self._drop_keys()

    async def _ends_text(self, key: Key) -> bool:
        if key.kind == "enter":
            return not self._keys and not await self._readable(PASTE_PAUSE_SECONDS)
        return key.kind == "end"

    async def _drop_keys(self) -> None:
        dropped: list[Key] = []
        while self._keys or await self._readable(PASTE_PAUSE_SECONDS):
            if not self._keys:
                self._read()
            dropped += self._keys
            self._keys.clear()
        if dropped:
            say(self._console, f"Typed ahead, and ignored: {_named(dropped)}")

    async def _next(self) -> Key:
        while not self._keys:
            await self._readable(None)
            self._read()
        key = self._keys.popleft()
        if key.kind == "end" and not self.typed:
            raise EOFError
        return key

    async def _readable(self, seconds: float | None) -> bool:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return ready.is_set()  # both at once, on a busy loop
        finally:
            loop.remove_reader(self._descriptor)
        return True

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:  # EIO: the terminal has been closed
            data = b""
        if not data:
            raise EOFError
        self._keys.extend(self._reader.read(data))

    @contextmanager
    def _answering(self, question: Text) -> Iterator[None]:
        self.typed, self._question = "", question
        self._show()
        try:
            yield
        finally:
            self._question = None
            self._write("\n")

    def _show(self) -> None:
        """Show the question and what has been typed so far."""
        assert self._question is not None
        lines = self._question.wrap(self._console, self._console.width)
        self._start = lines[-1].cell_len
        self._console.print(Text("\n").join(lines), end="", soft_wrap=True)
        self._write(_shown(self.typed))

    def _edit(self, key: Key) -> None:
        if key.kind == "text":
            self._insert(key.text)
        elif key.kind == "erase":
            self._keep(self.typed[:-1])
        elif key.kind == "erase word":
            self._keep(_LAST_WORD.sub("", self.typed))
        elif key.kind == "erase all":
            self._keep(self.typed[: self.typed.rfind("\n") + 1])

    def _insert(self, text: str) -> None:
        self.typed += text
        self._write(_shown(text))

    def _keep(self, beginning: str) -> None:
        """Erase what has been typed after this beginning of it."""
        if self._console.is_dumb_terminal:
            erased = _shown(self.typed[len(beginning) :])
            self._write("\b \b" * sum(map(get_character_cell_size, erased)))
            self.typed = beginning
            return
        row, _ = self._cursor()
        self.typed = beginning
        to_row, column = self._cursor()
        # In the column behind the last one a terminal cannot be put, but it gets there by writing the last character.
        last = _shown(self.typed[-1:]) if column >= self._console.width else ""
        column -= sum(map(get_character_cell_size, last))
        self._write(_up(row - to_row) + "\r" + _right(column) + "\x1b[J" + last)

    def _cursor(self) -> tuple[int, int]:
        """Return the row below the answer's first one, and the column, after what has been typed."""
        row, column = 0, self._start
        for character in _shown(self.typed):
            cells = get_character_cell_size(character)
            if character == "\n" or column + cells > self._console.width:
                row, column = row + 1, 0
            column += 0 if character == "\n" else cells
        return row, column

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()

    @contextmanager
    def _reading_keys(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        # After Ctrl-Z the shell has set the terminal for itself.
        loop.add_signal_handler(signal.SIGCONT, self._resume)
        self._enter()
        try:
            yield
        finally:
            self._leave()
            loop.remove_signal_handler(signal.SIGCONT)

    def _resume(self) -> None:
        if self._question is not None:
            self._enter()
            self._write("\n")
            self._show()

    def _enter(self) -> None:
        attributes = termios.tcgetattr(self._descriptor)
        attributes[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR)
        attributes[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
        # Now, not after output or with a flush: Ctrl-S may hold output, and keys that are dropped are reported.
        termios.tcsetattr(self._descriptor, termios.TCSANOW, attributes)
        if not self._console.is_dumb_terminal:
            self._write(BRACKETED_PASTE_ON)

    def _leave(self) -> None:
        assert self._usual is not None
        # The terminal may be gone.
        with suppress(OSError, termios.error):
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._usual)
            if not self._console.is_dumb_terminal:
                self._write(BRACKETED_PASTE_OFF)


def _shown(text: str) -> str:
    return visible(text).replace("\t", " ")


def _named(keys: Iterable[Key]) -> str:
    text = "".join("⏎" if key.kind == "enter" else key.text or f"<{key.kind}>" for key in keys).replace("\n", "⏎")
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def _up(rows: int) -> str:
    return f"\x1b[{rows}A" if rows > 0 else ""


def _right(columns: int) -> str:
    return f"\x1b[{columns}C" if columns > 0 else ""
