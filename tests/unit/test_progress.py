"""How a model's text is reported while it is written: complete, and seldom where nobody listens."""

from __future__ import annotations

from itertools import pairwise

import pytest

from vm_webapp.execution.progress import SHORTEST_GAP_SECONDS, UNHEARD_GAP_SECONDS, ProgressReporter, StageProgress

WRITING_SECONDS, PIECES_PER_SECOND = 20, 64


@pytest.mark.parametrize(("heard", "gap"), [(True, SHORTEST_GAP_SECONDS), (None, 0.1), (False, UNHEARD_GAP_SECONDS)])
def test_text_is_reported_whole_and_less_often_where_nobody_listens(heard: bool | None, gap: float) -> None:
    reports, now = list[StageProgress](), 1000.0

    def report(progress: StageProgress) -> bool | None:
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

    def report(progress: StageProgress) -> bool:
        reported_at.append(now)
        return now >= began

    reporter = ProgressReporter("topic_map", 1, report, lambda: now)
    while now < began + 3:
        reporter.add("x")
        now += 1 / PIECES_PER_SECOND
    heard = [at for at in reported_at if at >= began]
    assert heard[0] - began <= UNHEARD_GAP_SECONDS
    assert max(later - at for at, later in pairwise(heard)) < 2 * SHORTEST_GAP_SECONDS
