"""The person's terminal: the one place that makes a console, on which text is printed as it is."""

from __future__ import annotations

import sys
import threading
from typing import Any

from rich.console import Console
from rich.text import Text

# Control characters could hide a part of a draft or rewrite what stands above it, and those that force a direction
# could show its words in another order than the one that is approved. ASCII's have pictures in Unicode.
_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}


class PlainConsole(Console):
    """A console that takes no string for markup, whatever the caller asks for: only a ``Text`` has styles.

    Names, errors, paths and drafts come from servers, workflows and people, and ``[/INST]`` in them is text.
    """

    def render_str(self, text: str, *args: Any, **kwargs: Any) -> Text:
        """Return a string as text without markup, emoji codes or highlighting; arguments as in ``Console``."""
        style, justify, overflow = kwargs.get("style", ""), kwargs.get("justify"), kwargs.get("overflow")
        return Text(visible(text), style=style, justify=justify, overflow=overflow)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever ends the command: rich would end it with exit code 1, as if the run had failed."""
        if threading.current_thread() is not threading.main_thread():
            raise SystemExit  # ends rich's thread without a word; the next print of the main one raises again
        raise BrokenPipeError


def open_console() -> Console:
    """Return a console on standard output."""
    return PlainConsole(markup=False, emoji=False, highlight=False)


def can_ask() -> bool:
    """Return whether a person can be asked: both standard input and standard output are a terminal."""
    # Not Console.is_terminal, which believes FORCE_COLOR and knows nothing of standard input.
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def say(console: Console, text: str) -> None:
    """Print text that only the terminal may wrap, so that a command or a path in it can be copied as one."""
    console.print(text, soft_wrap=True)


def visible(text: str) -> str:
    """Return a text whose control characters, except line ends and tabs, are replaced by visible ones.

    So are the embeddings, overrides and isolates of the Unicode Bidirectional Algorithm.
    """
    return text.replace("\r\n", "\n").translate(_PICTURES)
