"""Lines of figures over the last hours, drawn by the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vm_webapp.ops.queue_history import Moment

WIDTH, HEIGHT = 600, 80  # of the drawing, in its own units


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over time.

    Attributes:
        name: what it is.
        css_class: how it is drawn.
        points: of the drawing, one text for each stretch of time without a gap.
        now: its newest value, None if there is none.
        most: its greatest value.
        most_at: when it was so great.
    """

    name: str
    css_class: str
    points: tuple[str, ...]
    now: float | None
    most: float
    most_at: datetime | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Some figures with one scale.

    Attributes:
        title: what they are.
        unit: in what they are counted.
        lines: the figures.
        top: the value at the upper edge.
    """

    title: str
    unit: str
    lines: tuple[Line, ...]
    top: float


Figure = tuple[str, str, Callable[[Moment], float]]
CHARTS: tuple[tuple[str, str, tuple[Figure, ...]], ...] = (
    ("Longest wait", "s", (("wait", "queue", lambda each: each.oldest_due_seconds),)),
    ("Stages waiting", "", (("waiting", "queue", lambda each: each.due),)),
    (
        "Workers",
        "",
        (
            ("running (solid)", "model", lambda each: each.workers),
            ("wanted (dashed)", "person", lambda each: each.desired_workers),
        ),
    ),
)


def charts_of(history: Sequence[Moment], *, now: datetime, hours: int, step_seconds: int) -> tuple[Chart, ...]:
    """Return the charts of the last hours.

    Args:
        history: the figures, oldest first.
        now: the right edge.
        hours: how many they cover.
        step_seconds: the time between two figures; where more is missing, a line is interrupted.
    """
    begin = now - timedelta(hours=hours)

    def chart(title: str, unit: str, figures: tuple[Figure, ...]) -> Chart:
        top = max((value(each) for each in history for _, _, value in figures), default=0) or 1
        lines = tuple(
            _line(name, css, [(each.at, value(each)) for each in history], begin, now, top, step_seconds)
            for name, css, value in figures
        )
        return Chart(title, unit, lines, top)

    return tuple(chart(*each) for each in CHARTS)


def _line(
    name: str,
    css_class: str,
    values: Sequence[tuple[datetime, float]],
    begin: datetime,
    end: datetime,
    top: float,
    step_seconds: int,
) -> Line:
    stretches: list[list[str]] = []
    last: datetime | None = None
    for at, value in values:
        x = WIDTH * min(1.0, max(0.0, (at - begin) / (end - begin)))
        if last is None or (at - last).total_seconds() > 2.5 * step_seconds:
            stretches.append([])
        stretches[-1].append(f"{x:.1f},{HEIGHT - HEIGHT * value / top:.1f}")
        last = at
    # A line of one point would be invisible.
    points = tuple(" ".join(each if len(each) > 1 else each * 2) for each in stretches)
    most = max(values, key=lambda each: each[1], default=None)
    return Line(
        name, css_class, points, values[-1][1] if values else None, most[1] if most else 0, most[0] if most else None
    )
