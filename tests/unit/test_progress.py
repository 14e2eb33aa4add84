"""How a model's text is reported while it is written: complete, and seldom where nobody listens."""

from __future__ import annotations

from itertools import pairwise

import pytest

from vm_webapp.execution.progress import (
    SHORTEST_GAP_SECONDS,
    UNHEARD_GAP_SECONDS,
    Listeners,
    ProgressReporter,
    StageProgress,
)

WRITING_SECONDS, PIECES_PER_SECOND = 20, 64


def heard(*words: str) -> Listeners:
    """Return one process for each word."""
    return Listeners(len(words), frozenset(word.encode() for word in words))


@pytest.mark.parametrize(
    ("by", "gap"), [(heard("a", "b"), SHORTEST_GAP_SECONDS), (None, 0.1), (heard(), UNHEARD_GAP_SECONDS)]
)
def test_text_is_reported_whole_and_less_often_where_nobody_listens(by: Listeners | None, gap: float) -> None:
    reports, now = list[StageProgress](), 1000.0

    def report(progress: StageProgress) -> Listeners | None:
        reports.append(progress)
        return by

    reporter = ProgressReporter("topic_map", 1, report, lambda: now)
    pieces = [f"{number} " for number in range(WRITING_SECONDS * PIECES_PER_SECOND)]
    for piece in pieces:
        reporter.add(piece)
        now += 1 / PIECES_PER_SECOND
    reporter.finish()
    assert "".join(each.text for each in reports) == "".join(pieces)
    assert all(each.offset == len("".join(earlier.text for earlier in reports[:n])) for n, each in enumerate(reports))
    assert len(reports) <= WRITING_SECONDS / gap + 2


def test_who_begins_to_listen_gets_the_text_within_a_second_and_then_as_it_is_written() -> None:
    reported_at, now, began = list[float](), 1000.0, 1005.5

    def report(progress: StageProgress) -> Listeners:
        reported_at.append(now)
        return heard("a") if now >= began else heard()

    reporter = ProgressReporter("topic_map", 1, report, lambda: now)
    while now < began + 3:
        reporter.add("x")
        now += 1 / PIECES_PER_SECOND
    after = [at for at in reported_at if at >= began]
    assert after[0] - began <= UNHEARD_GAP_SECONDS
    assert max(later - at for at, later in pairwise(after)) < 2 * SHORTEST_GAP_SECONDS


def pieces_for(*heard_by: Listeners | None) -> list[tuple[int, str]]:
    """Return what is reported of a text, a letter each second, to those who have heard each piece before."""
    replies, pieces, now = iter(heard_by), list[StageProgress](), 1000.0

    def report(progress: StageProgress) -> Listeners | None:
        pieces.append(progress)
        return next(replies)

    reporter = ProgressReporter("topic_map", 2, report, lambda: now)
    for letter in "abcdefghij"[: len(heard_by) + 1]:
        reporter.add(letter)
        now += UNHEARD_GAP_SECONDS
    return [(each.offset, each.text) for each in pieces]


def test_who_begins_to_listen_gets_what_was_written_before_and_nobody_else_does() -> None:
    one, three, two = heard("a"), heard("a", "b", "c"), heard("b", "c")
    assert pieces_for(None, heard(), heard(), one, one, three, three, two, two) == [
        *((0, "ab"), (2, "c"), (3, "d"), (4, "e")),
        (0, "abcdef"),  # the piece before was heard
        (6, "g"),
        (0, "abcdefgh"),  # by two more
        *((8, "i"), (9, "j")),
    ]


def test_who_takes_the_place_of_another_gets_what_was_written_before() -> None:
    assert pieces_for(heard("a"), heard("a"), heard("b"), heard("b"), heard("b")) == [
        *((0, "ab"), (2, "c"), (3, "d")),
        (0, "abcde"),
        (5, "f"),
    ]


def test_a_process_of_the_build_before_says_no_word_and_is_counted() -> None:
    unknown = frozenset[bytes]()
    assert pieces_for(Listeners(0, unknown), Listeners(1, unknown), Listeners(1, unknown))[2] == (0, "abcd")


def test_a_text_that_is_soon_complete_is_not_reported() -> None:
    reports, now = list[StageProgress](), 1000.0

    def report(progress: StageProgress) -> None:
        reports.append(progress)

    reporter = ProgressReporter("topic_map", 1, report, lambda: now)
    for _ in range(5):
        reporter.add("x")
        now += SHORTEST_GAP_SECONDS / 10
    reporter.finish()
    assert reports == []
