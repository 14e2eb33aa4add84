"""Keeps the line ends of a text over an edit, because editors save with line ends of their own choice."""

from __future__ import annotations

import re
from itertools import takewhile

_LINE_END = re.compile(r"(\r\n|\r|\n)")
_BYTE_ORDER_MARK = "\ufeff"


def with_line_ends_of(original: str, edited: str) -> str:
    """Return an edited text with the line ends that the original has.

    Where the original mixes line ends and the editor made them all the same, each line gets back its own, and a new
    line gets that of the line before it. The byte order mark and the final line end that an editor adds are taken away.
    """
    if not original.startswith(_BYTE_ORDER_MARK):
        edited = edited.removeprefix(_BYTE_ORDER_MARK)
    before, after = _lines(original), _lines(edited)
    if [line for line, _ in before] == [line for line, _ in after]:
        return original
    ends, saved = ([end for _, end in lines if end] for lines in (before, after))
    if ends and (len(set(ends)) == 1 or len(set(saved)) == 1):
        edited = _with_own_ends(before, after)
    return _without_added_end(edited, original)


def _with_own_ends(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> str:
    same, text = _same(before, after), ""
    same_at_end = _same(before[same:][::-1], after[same:][::-1])
    end, known = before[0][1], {line: end for line, end in before if line and end}
    for number, (line, given) in enumerate(after):
        from_end = len(after) - number
        # Between the lines that are the same at both ends, one is found by its text, and else by its position.
        place = len(before) - from_end if from_end <= same_at_end else min(number, len(before) - same_at_end - 1)
        is_moved = same <= number < len(after) - same_at_end and line in known
        end = known[line] if is_moved else before[max(place, 0)][1] or end
        if not line and end == "\n" and text.endswith("\r"):
            end = "\r"  # after a CR, an LF would not end an empty line: the two would be one line end
        text += line + (end if given else "")
    return text


def _same(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> int:
    """Return how many lines are the same from the beginning."""
    pairs = zip(before, after, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1][0], pairs))


def _lines(text: str) -> list[tuple[str, str]]:
    """Return each line and its end; the last one, which may be empty, has none."""
    parts = _LINE_END.split(text)
    return list(zip(parts[::2], [*parts[1::2], ""], strict=True))


def _without_added_end(text: str, original: str) -> str:
    if original.endswith(("\r", "\n")) or not text.endswith(("\r", "\n")):
        return text
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text[:-1]
