"""Hides secrets in what a model's server sends, and leaves words alone that happen to be the key.

A server that fails may quote the key, or the whole ``Authorization`` header, in its error or even in its text; a proxy
before it may do the same with its password. Local servers take any key, so people set ``ollama``, ``lm-studio`` or
``x``: such a word protects nothing, and stands in sentences that have to stay readable.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "[key]"
SHORTEST_SECRET = 8
SHORTEST_SECRET_OF_LETTERS = 16  # ``not-needed`` and ``no-key-required`` are words
WORDS = re.compile(r"[A-Za-z]+(?:[-_.][A-Za-z]+)*")
# What comes before a key where a message says that it is one: ``Bearer x``, ``"api_key": "x"``, ``key provided: x``.
SAYS_KEY = (
    r"(?i:\bbearer\s+"
    r"|(?<![a-z])(?:api[ _-]?)?(?:key|token|password)(?:\s+\w+)?[\"']?(?:\s*[:=]\s*[\"'`]?|\s+[\"'`]))"
)


class KeyMask:
    """Puts ``[key]`` in the place of keys and passwords.

    One of less than 8 characters, or of less than 16 if they are all letters, is taken for a word: it is hidden only in
    errors, and only where they say that it is a key.

    Args:
        secrets: the keys and passwords.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = _spellings(secret for secret in secrets if not _is_word(secret))
        words = _spellings(secret for secret in secrets if _is_word(secret))
        self._beginnings = tuple(secret[:length] for secret in self._secrets for length in range(1, len(secret)))
        self._anywhere = _any_of(self._secrets)
        self._named = re.compile(rf"({SAYS_KEY})(?:{_any_of(words).pattern})(?![\w-])")

    def hide_in_error(self, message: str) -> str:
        """Return an error's message without the key; one that is a word is hidden where the message calls it a key."""
        return self._named.sub(rf"\1{MASK}", self.hide_whole(message))

    def hide_in_text(self, text: str) -> str:
        """Return a model's text without the key, unless that is a word; the text may break off within the key."""
        stream = MaskedStream(self)
        return stream.add(text) + stream.rest()

    def hide_whole(self, text: str) -> str:
        """Return a text without the whole key, unless that is a word."""
        return self._anywhere.sub(MASK, text)

    def length_of_beginning(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a key that is no word."""
        if not text.endswith(self._beginnings):
            return 0
        return max(len(beginning) for beginning in self._beginnings if text.endswith(beginning))


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


def _is_word(secret: str) -> bool:
    return len(secret) < (SHORTEST_SECRET_OF_LETTERS if WORDS.fullmatch(secret) else SHORTEST_SECRET)


def _spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return the secrets as they stand in plain text, in JSON, in HTML and in a URL, the longest first."""
    spelled: set[str] = set()
    for secret in filter(None, secrets):
        in_json = json.dumps(secret)[1:-1]
        spelled |= {secret, in_json, in_json.replace("/", r"\/"), html.escape(secret), quote(secret, safe="")}
    return tuple(sorted(spelled, key=len, reverse=True))


def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)) or "(?!)")  # without texts nothing matches
