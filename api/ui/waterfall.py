"""The waterfall of a run: for each stage, when it was in the queue, written by the model and with a person.

It is made of the run's events, so that every attempt is in it, also those that failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from vm_webapp.runs.records import EventRecord, StageRecord

Kind = Literal["queue", "model", "person"]
Result = Literal["done", "failed", "lost", "released", "canceled", "changes", "open"]

NARROWEST = 0.4  # per cent: a segment of a second beside one of a day can still be seen
# What begins with an event, and how what was open before it ended.
BEGINS: dict[str, tuple[Kind, Result]] = {
    "stage.queued": ("queue", "done"),
    "stage.started": ("model", "done"),
    "stage.retry_scheduled": ("queue", "failed"),
    "stage.rescued": ("queue", "lost"),
    "stage.released": ("queue", "released"),
    "approval.requested": ("person", "done"),
}
ENDS: dict[str, Result] = {
    "stage.completed": "done",
    "stage.failed": "failed",
    "approval.granted": "done",
    "changes.requested": "changes",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A time in which a stage waited or was worked on.

    Attributes:
        attempt: the number of the attempt; None while it is in the queue before its first.
        end: now, if it has not ended.
        x: where it begins, in per cent of the run's time.
        width: likewise, and never less than ``NARROWEST``.
    """

    kind: Kind
    attempt: int | None
    begin: datetime
    end: datetime
    result: Result
    x: float
    width: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True, slots=True)
class Row:
    """A stage with its segments in order; none while it is pending, or where a fork took it over."""

    stage: StageRecord
    taken_over: bool
    segments: tuple[Segment, ...]

    def seconds(self, kind: Kind) -> float:
        """Return how long its segments of this kind lasted together."""
        return sum(segment.seconds for segment in self.segments if segment.kind == kind)


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The rows of a run, in the order of its stages, and the time that they span."""

    begin: datetime
    end: datetime
    rows: tuple[Row, ...]


@dataclass(slots=True)
class _Open:
    kind: Kind
    attempt: int | None
    begin: datetime


@dataclass(frozen=True, slots=True)
class _Closed:
    kind: Kind
    attempt: int | None
    begin: datetime
    end: datetime
    result: Result


def waterfall_of(stages: Sequence[StageRecord], events: Sequence[EventRecord], *, now: datetime) -> Waterfall:
    """Return the waterfall.

    Args:
        stages: the run's stages, in order.
        events: the run's events, oldest first; at least one.
        now: the present, at which what is open ends for the moment.
    """
    begin = events[0].created_at
    tracks = {stage.key: _Track() for stage in stages}
    for event in events:
        _apply(tracks, event)
    is_open = any(track.open for track in tracks.values())
    # The clocks of this process and of the database may differ by a little.
    end = max(now, events[-1].created_at) if is_open else events[-1].created_at
    rows = (Row(stage, tracks[stage.key].taken_over, tracks[stage.key].placed(begin, end)) for stage in stages)
    return Waterfall(begin, end, tuple(rows))


def _apply(tracks: dict[str, _Track], event: EventRecord) -> None:
    if event.type == "run.canceled":
        for each in tracks.values():
            each.close("canceled", event.created_at)
    track = tracks.get(event.stage or "")
    if track is None:
        return
    if event.type in BEGINS:
        kind, result = BEGINS[event.type]
        track.close(result, event.created_at)
        track.begin(kind, event)
    elif event.type in ENDS:
        track.close(ENDS[event.type], event.created_at)
        track.taken_over = bool(event.data.get("taken_over"))


class _Track:
    """The segments of a stage while the events are read."""

    def __init__(self) -> None:
        self.open: _Open | None = None
        self.taken_over = False
        self._closed: list[_Closed] = []
        self._attempt: int | None = None

    def begin(self, kind: Kind, event: EventRecord) -> None:
        if kind == "model":
            self._attempt = event.data.get("attempt")
        self.open = _Open(kind, self._attempt if kind != "queue" else None, event.created_at)

    def close(self, result: Result, at: datetime) -> None:
        if self.open is not None:
            self._closed.append(_Closed(self.open.kind, self.open.attempt, self.open.begin, at, result))
            self.open = None

    def placed(self, begin: datetime, end: datetime) -> tuple[Segment, ...]:
        self.close("open", end)
        span = max((end - begin).total_seconds(), 0.001)
        return tuple(_place(each, begin, span) for each in self._closed)


def _place(each: _Closed, begin: datetime, span: float) -> Segment:
    x = 100 * (each.begin - begin).total_seconds() / span
    width = max(100 * (each.end - each.begin).total_seconds() / span, NARROWEST)
    # One that began at the end must not hang over the edge.
    return Segment(each.kind, each.attempt, each.begin, each.end, each.result, min(x, 100 - NARROWEST), min(width, 100))


def kinds_of(rows: Iterable[Row]) -> tuple[Kind, ...]:
    """Return which kinds occur, for the legend."""
    found = {segment.kind for row in rows for segment in row.segments}
    kinds: tuple[Kind, ...] = ("queue", "model", "person")
    return tuple(kind for kind in kinds if kind in found)
