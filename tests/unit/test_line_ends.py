"""The line ends of an edited text are those of the draft, whatever the editor saved."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_webapp.cli.line_ends import with_line_ends_of

TEXTS = st.lists(st.sampled_from(("a", "b", "", "\r\n", "\n", "\r"))).map("".join)


@pytest.mark.parametrize(
    ("draft", "saved"),
    [
        ("# A\r\n\r\ntext\r\n", "# A\n\ntext\n"),
        ("# A\n\ntext\n", "# A\r\n\r\ntext\r\n"),
        ("# A\r\ntext\nend\r\n", "# A\ntext\nend\n"),
        ("# A\r\ntext", "# A\r\ntext\r\n"),
        ("# A\ntext", "# A\ntext\n"),
        ("# A", "# A\n"),
        ("# A", "# A\r\n"),
        ("# A\n", "\ufeff# A\r\n"),
        ("same\r\n" * 300 + "same\n", "same\n" * 301),
    ],
)
def test_what_an_editor_changes_of_itself_is_no_edit(draft: str, saved: str) -> None:
    assert with_line_ends_of(draft, saved) == draft


@pytest.mark.parametrize(
    ("draft", "saved", "edited"),
    [
        ("a\r\nb\r\n", "a\nnew\nb\n", "a\r\nnew\r\nb\r\n"),
        ("a\nb\n", "a\r\nnew\r\nb\r\n", "a\nnew\nb\n"),
        ("a\r\nb", "a\nB\n", "a\r\nB"),
        ("a\r\nb\nc\n", "a\nnew\nb\nc\n", "a\r\nnew\r\nb\nc\n"),
        ("a\r\nb\nc\n", "a\r\nnew\nb\nc\n", "a\r\nnew\nb\nc\n"),
        ("a\r\nb\nc\n", "a\nc\n", "a\r\nc\n"),
        ("a\nb\r\nc", "first\na\nb\nc\nlast\n", "first\na\nb\r\nc\r\nlast"),
        ("one", "one\r\ntwo\r\n", "one\r\ntwo"),
        ("\n\na\r", "a\n\nb", "a\r\rb"),
        ("a\n", "a", "a"),
        ("\ufeffa\n", "\ufeffb\n", "\ufeffb\n"),
        ("a\n", "", ""),
    ],
)
def test_an_edit_keeps_the_line_ends_that_it_found(draft: str, saved: str, edited: str) -> None:
    assert with_line_ends_of(draft, saved) == edited


@given(draft=TEXTS, saved=TEXTS)
def test_only_line_ends_are_touched(draft: str, saved: str) -> None:
    edited = with_line_ends_of(draft, saved)
    added = "" if draft.endswith(("\r", "\n")) else "\n"
    lines = edited.replace("\r\n", "\n").replace("\r", "\n")
    wanted = saved.replace("\r\n", "\n").replace("\r", "\n")
    assert lines in (wanted, wanted.removesuffix(added))
    assert with_line_ends_of(draft, draft) == draft


def test_a_long_draft_takes_no_time() -> None:
    draft = "".join(f"Line {i} of a long draft\r\n\n" for i in range(6_000))
    edited = draft.replace("Line 9 ", "Line nine ").replace("Line 5000 ", "Line five thousand ")
    began = time.monotonic()
    assert with_line_ends_of(draft, edited.replace("\r\n", "\n")) == edited
    assert time.monotonic() - began < 5
