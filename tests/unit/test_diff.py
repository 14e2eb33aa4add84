"""Comparing two versions of a text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ui.diff import MOST_LINES, MOST_SHOWN, Comparison, Gap, Line, Piece, compare

TEXT = st.text(alphabet="ab \n", max_size=60)


def side(found: Comparison, without: str) -> list[str]:
    """Return the lines of one version."""
    lines = (entry for entry in found.entries if isinstance(entry, Line))
    return ["".join(piece.text for piece in line.pieces) for line in lines if line.kind != without]


def test_the_same_text_has_no_differences() -> None:
    assert compare("a\nb", "a\r\nb\n") == Comparison((), 0, 0)


def test_a_changed_word_is_found_within_its_line() -> None:
    found = compare("The price is 10 euros.", "The price is 12 euros.")
    assert found.entries == (
        Line("removed", (Piece("same", "The price is "), Piece("removed", "10 "), Piece("same", "euros."))),
        Line("added", (Piece("same", "The price is "), Piece("added", "12 "), Piece("same", "euros."))),
    )


def test_a_line_with_hardly_a_word_in_common_is_replaced_as_a_whole() -> None:
    found = compare("Bread at dawn", "Nobody rides bicycles uphill gladly")
    assert [len(line.pieces) for line in found.entries if isinstance(line, Line)] == [1, 1]


def test_lines_far_from_a_change_are_left_out() -> None:
    old = [f"line {number}" for number in range(20)]
    new = [*old[:10], "a further line", *old[10:]]
    found = compare("\n".join(old), "\n".join(new))
    assert (found.added, found.removed) == (1, 0)
    assert [entry.lines for entry in found.entries if isinstance(entry, Gap)] == [7, 7]
    assert side(found, "removed") == new[7:14]


@given(TEXT, TEXT)
def test_both_versions_can_be_read_from_what_is_shown(old: str, new: str) -> None:
    found = compare(old, new)
    gaps = sum(entry.lines for entry in found.entries if isinstance(entry, Gap))
    for version, without in ((old, "added"), (new, "removed")):
        shown, lines = side(found, without), version.splitlines()
        assert (len(shown) + gaps == len(lines)) if found.entries else True
        assert not gaps or set(shown) <= set(lines)
        assert gaps or not found.entries or shown == lines


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\n" * 40_000, "b\n" * 40_000),
        ("a\n" * 1400, "b\na\n" * 700),
        ("a\n" * 190, "b\na\n" * 95),
        ("\n".join(map(str, range(MOST_LINES))), "\n".join(map(str, reversed(range(MOST_LINES))))),
        ("word " * 80_000, "other " * 80_000),
        (("ab ba " * 90 + "\n") * 1000, ("ba ba ab " * 60 + "\n") * 1000),
    ],
    ids=["all lines", "alternating", "few alternating", "reversed", "one long line", "words of many lines"],
)
def test_no_text_takes_long(old: str, new: str) -> None:
    began = time.process_time()
    found = compare(old[:400_000], new[:400_000])
    assert 0 < len(found.entries) <= MOST_SHOWN
    assert found.is_cut == (found.added + found.removed > MOST_SHOWN)
    assert time.process_time() - began < 2
