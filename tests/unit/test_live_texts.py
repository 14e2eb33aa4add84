"""The text that a model is writing, as followers get it who begin at different times."""

from __future__ import annotations

import json

import pytest

from api.streams.live_texts import LiveText


def piece(offset: int, text: str, *, stage: str = "plan", attempt: int = 1) -> str:
    return json.dumps({"stage": stage, "attempt": attempt, "offset": offset, "text": text})


def passed_on(live: LiveText, *pieces: str) -> list[tuple[int, str]]:
    """Return offset and text of what is passed on."""
    found = [json.loads(further) for each in pieces if (further := live.take(each)) is not None]
    return [(each["offset"], each["text"]) for each in found]


def test_pieces_are_passed_on_and_kept_as_a_whole() -> None:
    live = LiveText()
    assert passed_on(live, piece(0, "ab"), piece(2, "cd")) == [(0, "ab"), (2, "cd")]
    assert live.whole() == piece(0, "abcd")


def test_what_was_heard_is_not_passed_on_again() -> None:
    live = LiveText()
    assert passed_on(live, piece(0, "ab"), piece(0, "abcd"), piece(0, "ab"), piece(3, "def")) == [
        *((0, "ab"), (2, "cd")),
        (4, "ef"),
    ]
    assert live.whole() == piece(0, "abcdef")


def test_a_text_without_its_beginning_is_passed_on_but_not_taken_for_whole() -> None:
    live = LiveText()
    assert passed_on(live, piece(4, "ef"), piece(6, "gh")) == [(4, "ef"), (6, "gh")]
    assert live.whole() == ""
    assert passed_on(live, piece(0, "abcdefgh"), piece(8, "i")) == [(0, "abcdefgh"), (8, "i")]
    assert live.whole() == piece(0, "abcdefghi")


def test_a_lost_piece_leaves_a_gap_until_all_of_it_comes_again() -> None:
    live = LiveText()
    assert passed_on(live, piece(0, "ab"), piece(4, "ef")) == [(0, "ab"), (4, "ef")]
    assert live.whole() == ""


def test_each_attempt_begins_anew() -> None:
    live = LiveText()
    passed_on(live, piece(0, "ab"), piece(0, "x", attempt=2))
    assert live.whole() == piece(0, "x", attempt=2)


@pytest.mark.parametrize(
    "notice", ["{", "[]", "1", '{"stage": "plan"}', '{"stage":[],"attempt":{},"offset":"x","text":1}']
)
def test_what_is_no_piece_is_passed_on(notice: str) -> None:
    live = LiveText()
    assert live.take(notice) == notice
    assert live.whole() == ""
