"""Unwraps a document that a model has put into a Markdown code fence as a whole."""

from __future__ import annotations

import re

FENCE = re.compile(r"^(?P<marks>`{3,}|~{3,})[ \t]*(?P<info>[^\n`]*?)[ \t]*$")
MARKDOWN = frozenset({"markdown", "md", "mdx"})
HEADING = re.compile(r"#{1,6} \S")


def without_wrapper(text: str, *, truncated: bool = False) -> str:
    """Return the document without a fence around all of it; any other text as it is.

    A document that is one block of code stays, and so does one that begins and ends with blocks of its own: the fence
    is a wrapper only if it is marked as Markdown, or unmarked around a heading, and is closed by the very last line.

    Args:
        text: the document.
        truncated: it breaks off, so that a fence that is marked as Markdown need not be closed.
    """
    lines = text.strip().splitlines()
    opening = FENCE.match(lines[0]) if len(lines) > 2 else None
    if opening is None:
        return text
    info = opening["info"].strip().lower()
    begins_with_heading = HEADING.match(next((line for line in lines[1:-1] if line.strip()), "")) is not None
    if info not in MARKDOWN and not (not info and begins_with_heading):
        return text
    closing = _closing_line(lines, opening["marks"])
    if closing is None and truncated and info:
        return "\n".join(lines[1:]).lstrip("\n")
    if closing != len(lines) - 1:
        return text
    return "\n".join(lines[1:-1]).strip("\n") + "\n"


def _closing_line(lines: list[str], marks: str) -> int | None:
    """Return the number of the line that closes the fence of the first one; None if nothing does.

    Fences within it are closed first. Models nest them with as many marks, which CommonMark would not take for nesting:
    a mark with an info string opens, one without closes what is open.
    """
    inner: list[str] = []
    for number, line in enumerate(lines[1:], start=1):
        fence = FENCE.match(line.strip())
        if fence is None:
            continue
        if inner and not fence["info"] and _closes(fence["marks"], inner[-1]):
            inner.pop()
        elif fence["info"]:
            inner.append(fence["marks"])
        elif not inner and _closes(fence["marks"], marks):
            return number
    return None


def _closes(marks: str, opening: str) -> bool:
    return marks[0] == opening[0] and len(marks) >= len(opening)
