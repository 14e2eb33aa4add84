"""Reads what a terminal sends: characters, the keys that edit a line, and pasted text."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Literal

PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"
Kind = Literal["text", "paste", "enter", "new line", "erase", "erase word", "erase all", "end"]

_KEYS: dict[str, Kind] = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "erase",
    "\b": "erase",
    "\x17": "erase word",
    "\x15": "erase all",
    "\x04": "end",
}
_ALT_ENTER = ("\x1b\r", "\x1b\n")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# An escape sequence: CSI with its parameters, SS3 with one character, or ESC with one (Alt and a key).
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?")


@dataclass(frozen=True, slots=True)
class Key:
    """A key or a paste; ``text`` is empty unless it is of kind ``text`` or ``paste``."""

    kind: Kind
    text: str = ""


class KeyReader:
    """Turns the bytes of a terminal into keys; a character, a sequence or a paste may come in several pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def read(self, data: bytes) -> list[Key]:
        """Return the keys that are complete after these bytes; those without a meaning here are left out."""
        self._rest += self._decoder.decode(data)
        found: list[Key] = []
        while self._rest and (first := _first(self._rest)) is not None:
            key, self._rest = first
            if key is not None:
                found.append(key)
        return found


def _first(text: str) -> tuple[Key | None, str] | None:
    """Return the first key, None if it has no meaning, and what follows it; None if the key is not complete yet."""
    if text.startswith(PASTE_BEGINS):
        pasted, end, after = text.removeprefix(PASTE_BEGINS).partition(PASTE_ENDS)
        return (Key("paste", _clean(pasted)), after) if end else None
    if _UNFINISHED.fullmatch(text):
        return None
    if sequence := _SEQUENCE.match(text):
        return Key("new line") if sequence.group() in _ALT_ENTER else None, text[sequence.end() :]
    if text[0] in _KEYS:
        return Key(_KEYS[text[0]]), text[1:]
    if printable := _PRINTABLE.match(text):
        return Key("text", printable.group()), text[printable.end() :]
    return None, text[1:]


def _clean(pasted: str) -> str:
    return _UNPRINTABLE.sub("", pasted.replace("\r\n", "\n").replace("\r", "\n"))
