"""The words of a run's page for what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.ui.durations import duration
from api.ui.timeline import who
from api.ui.waterfall import Kind, Result, Row, Segment

KINDS: Mapping[Kind, str] = {"queue": "in the queue", "model": "written by the model", "person": "with a reviewer"}
RESULTS: Mapping[Result, str] = {
    "done": "",
    "failed": ", failed",
    "lost": ", lost its worker",
    "released": ", its worker shut down",
    "canceled": ", canceled",
    "changes": ", changes were requested",
    "open": " so far",
}


def segment_words(segment: Segment) -> str:
    """Return a segment of the waterfall in words."""
    attempt = f"attempt {segment.attempt} " if segment.kind == "model" and segment.attempt else ""
    return f"{attempt}{KINDS[segment.kind]} for {duration(segment.seconds)}{RESULTS[segment.result]}"


def row_words(row: Row) -> str:
    """Return what a row of the waterfall shows, in figures."""
    if row.taken_over:
        return "taken over from the original run"
    attempts = sum(segment.kind == "model" for segment in row.segments)
    figures = [f"{KINDS[kind]} {duration(row.seconds(kind))}" for kind in KINDS if row.seconds(kind) >= 0.05]
    return " · ".join([*figures, *([f"{attempts} attempts"] if attempts > 1 else [])])


FILTERS: Mapping[str, Callable[..., Any]] = {
    "kind_words": KINDS.__getitem__,
    "segment_words": segment_words,
    "row_words": row_words,
    "who": who,
}
