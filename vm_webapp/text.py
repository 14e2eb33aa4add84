"""Prepares text from outside to be stored and shown."""

from __future__ import annotations

import re
from unicodedata import bidirectional

UNSTORABLE = "holds a character that cannot be stored: NUL or half a surrogate pair"
LONGEST_NOTE = 300  # characters of an error in a log line or a heartbeat
# psycopg2 raises ValueError for NUL in text, and jsonb refuses both.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Embeddings, overrides and isolates of the Unicode Bidirectional Algorithm, with what ends them.
_DIRECTED = re.compile("[\u202a-\u202e\u2066-\u2069]")
_ISOLATE, _END = "\u2068", "\u2069"


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store a text: it has no NUL and no half of a surrogate pair."""
    return _UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """Return a text that PostgreSQL can store: without NUL, and with ``?`` for each half of a surrogate pair."""
    return without_surrogates(text.replace("\x00", ""))


def without_surrogates(text: str) -> str:
    """Return a text that UTF-8 can encode: with ``?`` for each half of a surrogate pair whose other half is missing."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # Two halves that stand together are one character.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text.encode(errors="replace").decode()


def single_line(text: str) -> str:
    """Return a text with each run of white space, line ends included, replaced by one space."""
    return " ".join(text.split())


def isolated(text: str) -> str:
    """Return a text whose direction does not reach the words beside it, for where no element can keep them apart.

    What sets a direction by force is taken out; text that is written from right to left stays so, within an isolate.
    """
    bare = _DIRECTED.sub("", text)
    is_from_right = not bare.isascii() and any(bidirectional(each) in ("R", "AL", "AN") for each in bare)
    return f"{_ISOLATE}{bare}{_END}" if is_from_right else bare


def escaped(text: str) -> str:
    """Return a text on one line without control characters: each, like every invisible one, as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, such as ``1 worker`` or ``2 workers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plural_with_verb(count: int, noun: str) -> str:
    """Return a count with its noun and the verb, such as ``1 stage is`` or ``2 stages are``."""
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"


def sentence(text: str) -> str:
    """Return a text as a sentence: with a capital at its beginning and one full stop at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if the text is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def last_line(text: str) -> str:
    """Return the last line of a text that is not blank, or an empty string."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def shortened(error: BaseException | str) -> str:
    """Return an error's text, cut to the length that a log line or a heartbeat allows."""
    return str(error)[:LONGEST_NOTE]
