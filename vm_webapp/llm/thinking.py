"""Separates a model's reasoning from its text, where a server sends both as content."""

from __future__ import annotations

import re

TAGS = "think|thinking|thought|reasoning"
OPENING = re.compile(rf"\s*<({TAGS})>", re.IGNORECASE)
CLOSING = re.compile(rf"</({TAGS})>", re.IGNORECASE)
# A closing tag alone is reasoning's end only at the end of its line and outside of code: a document may mention it.
LONE_CLOSING = re.compile(rf"^[^\n`]*</({TAGS})>[ \t]*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)
LONGEST_TAG = len("</reasoning>")


def without_reasoning(text: str) -> str:
    """Return a complete text without the reasoning at its beginning.

    Reasoning stands between ``<think>`` and ``</think>``, or before a closing tag alone: chat templates of several
    reasoning models put the opening tag into the prompt, so that the model writes only the other one. Reasoning that
    was never closed is all there is.
    """
    while opening := OPENING.match(text):
        closing = re.compile(rf"</{opening.group(1)}>", re.IGNORECASE).search(text, opening.end())
        if closing is None:
            return ""
        text = text[closing.end() :].lstrip()
    first = CLOSING.search(text)
    lone = LONE_CLOSING.search(text)
    if first and lone and lone.start() <= first.start() < lone.end() and not _in_code(text[: first.start()]):
        return text[first.end() :].lstrip()
    return text


def _in_code(text: str) -> bool:
    return len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 1


class ReasoningFilter:
    """Withholds reasoning at the beginning of a stream from those who watch the text while it is written.

    A closing tag alone comes too late for that; ``without_reasoning`` removes it from the complete text.
    """

    def __init__(self) -> None:
        self._held = ""
        self._tag: str | None = None
        self._begun = False
        self._removed = False

    def add(self, piece: str) -> str:
        """Add a piece of content, and return the text in it that is no reasoning. Tags may be cut across pieces."""
        if self._begun:
            return piece
        self._held += piece
        while True:
            if self._tag is not None:
                closing = re.search(rf"</{self._tag}>", self._held, re.IGNORECASE)
                if closing is None:
                    self._held = self._held[-LONGEST_TAG:]
                    return ""
                self._held, self._tag, self._removed = self._held[closing.end() :], None, True
            opening = OPENING.match(self._held)
            if opening is None:
                break
            self._tag, self._held = opening.group(1), self._held[opening.end() :]
        if self._may_become_a_tag():
            return ""
        held, self._held, self._begun = self._held, "", True
        return held.lstrip() if self._removed else held

    def _may_become_a_tag(self) -> bool:
        start = self._held.lstrip().lower()
        return not start or any(f"<{tag}>".startswith(start) for tag in TAGS.split("|"))
