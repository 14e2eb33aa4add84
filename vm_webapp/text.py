"""Text from elsewhere, made fit to be stored and to be shown."""

from __future__ import annotations

import re

UNSTORABLE = "holds a character that cannot be stored: NUL or half a surrogate pair"
LONGEST_NOTE = 300  # characters of an error as a log line or a heartbeat has it
_REFUSED = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL takes a text: it has no NUL and no half of a surrogate pair."""
    return _REFUSED.search(text) is None


def storable(text: str) -> str:
    """Return a text as PostgreSQL can store it: without NUL, and with ``?`` for each half of a surrogate pair."""
    return without_surrogates(text.replace("\x00", ""))


def without_surrogates(text: str) -> str:
    """Return a text as UTF-8 can hold it: with ``?`` for each half of a surrogate pair."""
    return text.encode(errors="replace").decode()


def single_line(text: str) -> str:
    """Return a text with every run of white space, line ends included, as one space."""
    return " ".join(text.split())


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or the name of its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def last_line(text: str) -> str:
    """Return the last line that says anything, empty where none does."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def shortened(error: BaseException | str) -> str:
    """Return what an error says, cut to what a log line or a heartbeat has room for."""
    return str(error)[:LONGEST_NOTE]
