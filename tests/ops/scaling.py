"""A scaler whose platform, clock and decisions a test sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.runs import read
from vm_webapp.db.pool import execute, transaction
from vm_webapp.ops.autoscale.platform import PlatformError, Service
from vm_webapp.ops.autoscale.scaler import Scaler
from vm_webapp.ops.autoscale.shapes import Limits

DECIDE = """
    INSERT INTO autoscale_decision (decided_at, desired_workers, reason, arrivals_per_minute, completions_per_minute,
                                    min_workers, max_workers, target_wait_seconds, figures, past)
    VALUES (now() - %(age)s * interval '1 s', %(desired)s, 'much work', 1, 1, 1, 10, 30, '{}', '[]')
    ON CONFLICT (one) DO UPDATE SET decided_at = EXCLUDED.decided_at, desired_workers = EXCLUDED.desired_workers
"""


class Clock:
    """A monotonic clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class ObedientPlatform:
    """A platform that does as the test says.

    Attributes:
        instances: the number that it keeps.
        numbers: those that were asked for.
        follows: whether it keeps the number that it is asked for.
        problem: what each call raises.
        lag: how many more readings show the number before.
        during: called in the middle of a call that scales.
        before_reading: called at the start of each reading.
    """

    def __init__(self) -> None:
        self.instances, self.scales_itself = 1, False
        self.numbers: list[int] = []
        self.reads = 0
        self.follows = True
        self.problem: PlatformError | None = None
        self.lag = 0
        self.during: Callable[[], None] = lambda: None
        self.before_reading: Callable[[], None] = lambda: None

    def read(self) -> Service:
        self.reads += 1
        self.before_reading()
        if self.problem:
            raise self.problem
        if self.lag:
            self.lag -= 1
            return Service(1, scales_itself=False)
        return Service(self.instances, self.scales_itself)

    def scale(self, instances: int, *, until: float) -> None:
        self.numbers.append(instances)
        self.during()
        if self.problem:
            raise self.problem
        if self.follows:
            self.instances = instances


class Stand:
    """A scaler, its platform and its clock."""

    def __init__(self, holder: str = "one", platform: ObedientPlatform | None = None, **options: Any) -> None:
        self.platform = platform or ObedientPlatform()
        self.clock = Clock()
        options = {"limits": Limits(1, 10, 30), "holder": holder, "clock": self.clock, **options}
        self.scaler = Scaler(self.platform, "srv-1", **options)

    def turns(self, number: int = 1, *, every: float = 2.0) -> None:
        """Let time pass, with a turn of the scaler in each step of it."""
        for _ in range(number):
            self.scaler.run_once()
            self.clock.now += every


def decide(desired: int, *, age: float = 0) -> None:
    with transaction():
        execute(DECIDE, desired=desired, age=age)


def lose_lease() -> None:
    with transaction():
        execute("UPDATE duty_leases SET expires_at = clock_timestamp() - interval '1 s'")


def outcomes() -> list[str]:
    return [each["outcome"] for each in read("SELECT outcome FROM scale_calls ORDER BY id")]
