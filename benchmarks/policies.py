"""The policies that are compared: ours, and those that platforms and autoscalers offer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from benchmarks.figures import OURS
from benchmarks.simulation import Policy
from vm_webapp.ops.autoscale.policy import PAST_SECONDS, decide
from vm_webapp.ops.autoscale.shapes import Decision, Figures, Limits

LIMITS = Limits(min_workers=1, max_workers=20, target_wait_seconds=30)
CPU_TARGET = 0.6
CPU_IDLE, CPU_OF_STAGE = 0.01, 0.0025  # share of a core of a worker without work, and seconds of a core for each stage
KEDA_EVERY, KEDA_DOWN_SECONDS = 30.0, 300.0  # its polling interval, and the HPA's window before it scales in
HPA_EVERY = 15.0
BAND_UP_SECONDS, BAND_DOWN_SECONDS = 180.0, 600.0
BAND_LOW = 5.0  # seconds: below it, a worker goes


def ours(limits: Limits = LIMITS) -> Policy:
    """Return the product's policy."""
    past: deque[Decision] = deque()

    def policy(figures: Figures, now: float) -> int:
        while past and past[0].at < now - PAST_SECONDS:
            past.popleft()
        past.append(decide(figures, limits, tuple(past), now))
        return past[-1].desired

    return policy


def fixed(workers: int) -> Callable[[], Policy]:
    """Return what makes a policy that always asks for so many."""
    return lambda: lambda figures, now: workers


def by_cpu() -> Policy:
    """Return the platform's: ceil(n × use / target), out at once, in after the window of five minutes."""
    window = _Highest(KEDA_DOWN_SECONDS)

    def policy(figures: Figures, now: float) -> int:
        workers = max(1, figures.workers)
        use = CPU_IDLE + CPU_OF_STAGE * figures.completions_per_minute / 60 / workers
        return window.of(_limited(math.ceil(workers * use / CPU_TARGET)), now)

    return policy


def by_depth() -> Policy:
    """Return KEDA's: ceil(depth / n), where depth is all that is due or running, and n the slots of a worker.

    The Horizontal Pod Autoscaler below it adds four workers or as many as there are each 15 seconds, whichever is
    more, and takes away what has been too many for five minutes.
    """
    window = _Highest(KEDA_DOWN_SECONDS)
    asked, polled, stepped, last = 1, -math.inf, -math.inf, 1

    def policy(figures: Figures, now: float) -> int:
        nonlocal asked, polled, stepped, last
        if now - polled >= KEDA_EVERY:
            polled, asked = now, _limited(math.ceil((figures.due + figures.running) / figures.slots_each))
        if now - stepped >= HPA_EVERY:
            stepped, last = now, min(window.of(asked, now), max(last + 4, 2 * last))
        return last

    return policy


def by_latency() -> Policy:
    """Return bands of latency: one more after three minutes above the target, one fewer after ten below the band."""
    last, changed = 1, -math.inf

    def policy(figures: Figures, now: float) -> int:
        nonlocal last, changed
        wait = figures.oldest_due_seconds
        if wait > LIMITS.target_wait_seconds and now - changed >= BAND_UP_SECONDS:
            last, changed = _limited(last + 1), now
        elif wait < BAND_LOW and now - changed >= BAND_DOWN_SECONDS:
            last, changed = _limited(last - 1), now
        return last

    return policy


POLICIES: dict[str, Callable[[], Policy]] = {
    OURS: ours,
    "fixed, 5 workers": fixed(5),
    "fixed, 10 workers": fixed(10),
    "CPU": by_cpu,
    "KEDA, depth": by_depth,
    "latency bands": by_latency,
}


class _Highest:
    """The highest of the numbers of a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._numbers: deque[tuple[float, int]] = deque()

    def of(self, number: int, now: float) -> int:
        while self._numbers and self._numbers[0][0] < now - self._seconds:
            self._numbers.popleft()
        self._numbers.append((now, number))
        return max(one for _, one in self._numbers)


def _limited(workers: int) -> int:
    return max(LIMITS.min_workers, min(workers, LIMITS.max_workers))
