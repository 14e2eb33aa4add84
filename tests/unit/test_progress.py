"""How a model's text is reported while it is written: complete, and seldom where nobody listens."""

from __future__ import annotations

from itertools import pairwise

import pytest

from vm_webapp.execution.progress import SHORTEST_GAP_SECONDS, UNHEARD_GAP_SECONDS, ProgressReporter, StageProgress

WRITING_SECONDS, PIECES_PER_SECOND = 20, 64


@pytest.mark.parametrize(("heard", "gap"), [(2, SHORTEST_GAP_SECONDS), (None, 0.1), (0, UNHEARD_GAP_SECONDS)])
def test_text_is_reported_whole_and_less_often_where_nobody_listens(heard: int | None, gap: float) -> None:
    reports, now = list[StageProgress](), 1000.0

    def report(progress: StageProgress) -> int | None:
        reports.append(progress)
        return heard

    reporter = ProgressReporter("topic_map", 1, report, lambda: now)
    pieces = [f"{number} " for number in range(WRITING_SECONDS * PIECES_PER_SECOND)]
    for piece in pieces:
        reporter.add(piece)
        now += 1 / PIECES_PER_SECOND
    reporter.flush()
    assert "".join(each.text for each in reports) == "".join(pieces)
    assert all(each.offset == len("".join(earlier.text for earlier in reports[:n])) for n, each in enumerate(reports))
    assert len(reports) <= WRITING_SECONDS / gap + 2


def test_who_begins_to_listen_gets_the_text_within_a_second_and_then_as_it_is_written() -> None:
    reported_at, now, began = list[float](), 1000.0, 1005.5

    def report(progress: StageProgress) -> int:
        reported_at.append(now)
        return int(now >= began)

    reporter = ProgressReporter("topic_map", 1, report, lambda: now)
    while now < began + 3:
        reporter.add("x")
        now += 1 / PIECES_PER_SECOND
    heard = [at for at in reported_at if at >= began]
    assert heard[0] - began <= UNHEARD_GAP_SECONDS
    assert max(later - at for at, later in pairwise(heard)) < 2 * SHORTEST_GAP_SECONDS


def test_who_begins_to_listen_gets_what_was_written_before_and_nobody_else_does() -> None:
    heard_by, pieces, now = iter([None, 0, 0, 1, 1, 3, 3, 2, 2]), list[StageProgress](), 1000.0

    def report(progress: StageProgress) -> int | None:
        pieces.append(progress)
        return next(heard_by)

    reporter = ProgressReporter("topic_map", 2, report, lambda: now)
    for letter in "abcdefghi":
        reporter.add(letter)
        now += UNHEARD_GAP_SECONDS
    assert [(each.offset, each.text) for each in pieces] == [
        *((0, "a"), (1, "b"), (2, "c"), (3, "d")),
        (0, "abcde"),  # the piece before was heard
        (5, "f"),
        (0, "abcdefg"),  # by two more
        *((7, "h"), (8, "i")),
    ]
