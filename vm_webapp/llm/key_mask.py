"""Hides the model's key in what its server sends, and leaves words alone that happen to be the key.

A server that fails may quote the key, or the whole ``Authorization`` header, in its error or even in its text. Local
servers take any key, so people set ``ollama``, ``lm-studio`` or ``x``: such a word protects nothing, and stands in
sentences that have to stay readable.
"""

from __future__ import annotations

import html
import json
import re
from urllib.parse import quote

MASK = "[key]"
SHORTEST_SECRET = 8
SHORTEST_SECRET_OF_LETTERS = 16  # ``not-needed`` and ``no-key-required`` are words
WORDS = re.compile(r"[A-Za-z]+(?:[-_.][A-Za-z]+)*")
# What comes before a key where a message says that it is one: ``Bearer x``, ``"api_key": "x"``, ``key provided: x``.
NAMED = r"(?i:\bbearer\s+|(?<![a-z])(?:api[ _-]?)?(?:key|token)(?:\s+\w+)?[\"']?(?:\s*[:=]\s*[\"'`]?|\s+[\"'`]))"


class KeyMask:
    """Puts ``[key]`` in the place of a key.

    A key of less than 8 characters, or of less than 16 if they are all letters, is taken for a word: it is hidden only
    in errors, and only where they say that it is a key.

    Args:
        key: the key.
    """

    def __init__(self, key: str) -> None:
        is_word = len(key) < (SHORTEST_SECRET_OF_LETTERS if WORDS.fullmatch(key) else SHORTEST_SECRET)
        self._secrets = () if is_word else _spellings(key)
        spelled = "|".join(map(re.escape, _spellings(key)))
        self._pattern = re.compile(f"({NAMED})(?:{spelled})" + r"(?![\w-])" if is_word else f"()(?:{spelled})")

    def hide_in_error(self, message: str) -> str:
        """Return an error's message without the key; one that is a word is hidden where the message calls it a key."""
        return self._pattern.sub(rf"\1{MASK}", message)

    def hide_in_text(self, text: str) -> str:
        """Return a model's text without the key, unless that is a word; the text may break off within the key."""
        stream = MaskedStream(self)
        return stream.add(text) + stream.rest()

    def hide_whole(self, text: str) -> str:
        """Return a text without the whole key, unless that is a word."""
        return self.hide_in_error(text) if self._secrets else text

    def length_of_beginning(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a key that is no word."""
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(text)), 0, -1):
                if text.endswith(secret[:length]):
                    return length
        return 0


class MaskedStream:
    """Hides the key in a text that comes in pieces, across which it may be cut.

    Args:
        mask: what hides it in a whole text.
    """

    def __init__(self, mask: KeyMask) -> None:
        self._mask = mask
        self._held = ""

    def add(self, piece: str) -> str:
        """Add a piece; return the text that may be shown now."""
        text = self._mask.hide_whole(self._held + piece)
        shown = len(text) - self._mask.length_of_beginning(text)
        self._held = text[shown:]
        return text[:shown]

    def rest(self) -> str:
        """Return what was held back, once nothing further comes; most of a key is hidden like the whole."""
        held, self._held = self._held, ""
        return MASK if len(held) >= SHORTEST_SECRET else held


def _spellings(key: str) -> tuple[str, ...]:
    """Return the key as it stands in plain text, in JSON, in HTML and in a URL, the longest first."""
    in_json = json.dumps(key)[1:-1]
    each = {key, in_json, in_json.replace("/", r"\/"), html.escape(key), quote(key, safe="")}
    return tuple(sorted(each, key=len, reverse=True))
