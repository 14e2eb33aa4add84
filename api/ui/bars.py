"""Bars of a chart: how much there was on each day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

LOWEST = 3.0  # per cent: a little beside a lot can still be seen


@dataclass(frozen=True, slots=True)
class Bar:
    """One day.

    Attributes:
        x: where it begins, in per cent of the chart's width.
        width: likewise.
        height: in per cent of the chart's height, 0 for nothing.
    """

    day: date
    amount: float
    x: float
    width: float
    height: float

    @property
    def y(self) -> float:
        """Where its upper end is, in per cent from above."""
        return 100 - self.height


def bars_of(amounts: Mapping[date, float], first: date, last: date) -> tuple[Bar, ...]:
    """Return the bars of a time, one for each day.

    Args:
        amounts: how much there was, by the day; days that are missing had nothing.
        first: the first day.
        last: the last day, included.
    """
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    highest = max((amounts.get(day, 0) for day in days), default=0)
    each = 100 / len(days)

    def height(amount: float) -> float:
        return max(LOWEST, 100 * amount / highest) if amount > 0 else 0.0

    return tuple(
        Bar(day, amounts.get(day, 0), round(number * each, 3), round(each * 0.8, 3), height(amounts.get(day, 0)))
        for number, day in enumerate(days)
    )
