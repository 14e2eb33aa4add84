"""Compares two versions of a text: by lines, and by words within the lines that were changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain, islice, zip_longest
from typing import Literal

Kind = Literal["same", "removed", "added"]

CONTEXT_LINES = 3
# SequenceMatcher's worst case grows faster than the square: beyond these, a text is shown as replaced.
MOST_LINES = 3000
MOST_WORDS = 300
MOST_PAIRS_OF_WORDS = 200_000  # of all lines together
MOST_SHOWN = 3000
LEAST_ALIKE = 0.3  # below, two lines have so little in common that words in two colours are harder to read
WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a line: in both versions, or only in one."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of one version or of both.

    Attributes:
        kind: ``removed`` for a line of the old version, ``added`` for one of the new one.
        pieces: its text; together they are the line without its end.
    """

    kind: Kind
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines of both versions that are left out, since no change is near."""

    lines: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two versions.

    Attributes:
        entries: lines and gaps in order; none if the versions are the same.
        added: how many lines only the new version has.
        removed: how many lines only the old one has.
        is_cut: whether there are more entries than ``MOST_SHOWN``, which is as many as there are here.
    """

    entries: tuple[Line | Gap, ...]
    added: int
    removed: int
    is_cut: bool = False


def compare(old: str, new: str) -> Comparison:
    """Compare two versions of a text. Line ends do not count, and neither does a missing one at the end."""
    lines = list(_Lines().of(old.splitlines(), new.splitlines()))
    count = {kind: sum(line.kind == kind for line in lines) for kind in ("added", "removed")}
    entries = tuple(islice(_with_gaps(lines), MOST_SHOWN + 1)) if any(count.values()) else ()
    return Comparison(entries[:MOST_SHOWN], **count, is_cut=len(entries) > MOST_SHOWN)


class _Lines:
    """Finds the lines of two versions, with what all comparisons of words together may cost."""

    def __init__(self) -> None:
        self._left = MOST_PAIRS_OF_WORDS

    def of(self, old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
        begin = _common(zip(old, new, strict=False))
        end = _common(zip(reversed(old[begin:]), reversed(new[begin:]), strict=False))
        yield from map(_same, old[:begin])
        yield from self._changed(old[begin : len(old) - end], new[begin : len(new) - end])
        yield from map(_same, old[len(old) - end :])

    def _changed(self, old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
        if len(old) + len(new) > MOST_LINES:
            yield from (_line("removed", text) for text in old)
            yield from (_line("added", text) for text in new)
            return
        for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new).get_opcodes():
            if tag == "equal":
                yield from map(_same, old[i1:i2])
            else:
                yield from self._replaced(old[i1:i2], new[j1:j2])

    def _replaced(self, old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
        """Yield the lines that were removed and then those that were added, which reads easier than turn by turn."""
        pairs = [self._pair(one, other) for one, other in zip_longest(old, new)]
        yield from (removed for removed, _ in pairs if removed is not None)
        yield from (added for _, added in pairs if added is not None)

    def _pair(self, old: str | None, new: str | None) -> tuple[Line | None, Line | None]:
        whole = _whole("removed", old), _whole("added", new)
        if old is None or new is None:
            return whole
        before, after = WORDS.findall(old), WORDS.findall(new)
        pairs = len(before) * len(after)
        if max(len(before), len(after)) > MOST_WORDS or pairs > self._left:
            return whole
        self._left -= pairs
        matcher = SequenceMatcher(None, before, after)
        if matcher.ratio() < LEAST_ALIKE:
            return whole
        codes = matcher.get_opcodes()
        removed = ((tag, before[i1:i2]) for tag, i1, i2, _, _ in codes)
        added = ((tag, after[j1:j2]) for tag, _, _, j1, j2 in codes)
        return _of_words("removed", removed), _of_words("added", added)


def _common(pairs: Iterable[tuple[str, str]]) -> int:
    """Return how many pairs at the beginning are equal."""
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count


def _of_words(kind: Kind, runs: Iterable[tuple[str, list[str]]]) -> Line:
    pieces = (Piece("same" if tag == "equal" else kind, "".join(words)) for tag, words in runs if words)
    return Line(kind, tuple(pieces))


def _whole(kind: Kind, text: str | None) -> Line | None:
    return None if text is None else _line(kind, text)


def _line(kind: Kind, text: str) -> Line:
    return Line(kind, (Piece(kind, text),))


def _same(text: str) -> Line:
    return _line("same", text)


def _with_gaps(lines: Sequence[Line]) -> Iterator[Line | Gap]:
    """Yield the changed lines with the ``CONTEXT_LINES`` before and after each; a gap stands for the others."""
    changed = (number for number, line in enumerate(lines) if line.kind != "same")
    near = set(chain.from_iterable(range(at - CONTEXT_LINES, at + CONTEXT_LINES + 1) for at in changed))
    left_out = 0
    for number, line in enumerate(lines):
        if number in near:
            if left_out:
                yield Gap(left_out)
            left_out = 0
            yield line
        else:
            left_out += 1
    if left_out:
        yield Gap(left_out)
