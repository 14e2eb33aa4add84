"""The waterfall of a run, from its events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.ui.waterfall import BEGINS, ENDS, NARROWEST, Waterfall, kinds_of, waterfall_of
from tests.unit.run_history import at, event, stage


def shape(found: Waterfall, row: int) -> list[tuple[str, int | None, float, str]]:
    """Return kind, attempt, seconds and result of each segment of a row."""
    return [(each.kind, each.attempt, each.seconds, each.result) for each in found.rows[row].segments]


def test_a_stage_is_queued_written_and_reviewed() -> None:
    events = [
        event(1, 0, "run.created"),
        event(2, 0, "stage.queued", "plan"),
        event(3, 2, "stage.started", "plan", attempt=1),
        event(4, 10, "approval.requested", "plan"),
        event(5, 20, "approval.granted", "plan"),
        event(6, 20, "stage.completed", "plan"),
        event(7, 20, "run.completed"),
    ]
    found = waterfall_of([stage("plan")], events, now=at(500))
    assert shape(found, 0) == [
        ("queue", None, 2, "done"),
        ("model", 1, 8, "done"),
        ("person", 1, 10, "done"),
    ]
    assert [(each.x, each.width) for each in found.rows[0].segments] == [(0, 10), (10, 40), (50, 50)]
    assert found.end == at(20)
    assert [found.rows[0].seconds(kind) for kind in kinds_of(found.rows)] == [2, 8, 10]


def test_every_attempt_is_a_segment_with_its_result() -> None:
    events = [
        event(1, 0, "stage.queued", "plan"),
        event(2, 1, "stage.started", "plan", attempt=1),
        event(3, 2, "stage.retry_scheduled", "plan"),
        event(4, 3, "stage.started", "plan", attempt=2),
        event(5, 4, "stage.rescued", "plan"),
        event(6, 5, "stage.started", "plan", attempt=3),
        event(7, 6, "stage.released", "plan"),
        event(8, 7, "stage.started", "plan", attempt=4),
        event(9, 8, "approval.requested", "plan"),
        event(10, 9, "changes.requested", "plan"),
        event(11, 9, "stage.queued", "plan"),
        event(12, 10, "stage.started", "plan", attempt=5),
        event(13, 11, "stage.failed", "plan"),
        event(14, 11, "run.failed"),
    ]
    found = waterfall_of([stage("plan", "failed")], events, now=at(500))
    assert [(kind, attempt, result) for kind, attempt, _, result in shape(found, 0) if kind != "queue"] == [
        ("model", 1, "failed"),
        ("model", 2, "lost"),
        ("model", 3, "released"),
        ("model", 4, "done"),
        ("person", 4, "changes"),
        ("model", 5, "failed"),
    ]


def test_what_is_open_ends_now() -> None:
    events = [event(1, 0, "stage.queued", "plan"), event(2, 2, "stage.started", "plan", attempt=1)]
    found = waterfall_of([stage("plan", "running"), stage("copy", "pending", 2)], events, now=at(10))
    assert shape(found, 0)[-1] == ("model", 1, 8, "open")
    assert found.rows[1].segments == ()


def test_a_clock_that_is_behind_the_database_s_does_no_harm() -> None:
    events = [event(1, 0, "stage.queued", "plan"), event(2, 2, "stage.started", "plan", attempt=1)]
    assert shape(waterfall_of([stage("plan", "running")], events, now=at(1)), 0)[-1] == ("model", 1, 0, "open")


def test_cancelling_ends_what_is_open() -> None:
    events = [
        event(1, 0, "stage.queued", "plan"),
        event(2, 1, "stage.started", "plan", attempt=1),
        event(3, 4, "run.canceled"),
    ]
    assert shape(waterfall_of([stage("plan", "canceled")], events, now=at(9)), 0)[-1] == ("model", 1, 3, "canceled")


def test_a_stage_that_a_fork_took_over_has_no_time_of_its_own() -> None:
    events = [event(1, 0, "run.created"), event(2, 0, "stage.completed", "plan", taken_over=True)]
    (row,) = waterfall_of([stage("plan")], events, now=at(9)).rows
    assert (row.taken_over, row.segments) == (True, ())


@given(st.lists(st.tuples(st.sampled_from([*BEGINS, *ENDS, "run.canceled", "x.y"]), st.integers(0, 10**6)), min_size=1))
def test_segments_stay_within_the_picture_whatever_has_happened(steps: list[tuple[str, int]]) -> None:
    seconds, events = 0, []
    for number, (type, pause) in enumerate(steps):
        seconds += pause
        events.append(event(number, seconds, type, "plan", attempt=number))
    (row,) = waterfall_of([stage("plan")], events, now=at(seconds + 1)).rows
    for each in row.segments:
        assert 0 <= each.x <= 100 - NARROWEST
        assert NARROWEST <= each.width <= 100
        assert each.x + each.width <= 100 + NARROWEST + 1e-6
        assert each.seconds >= 0
