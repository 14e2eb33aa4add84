"""Readiness verdicts, with a clock that a test controls."""

from __future__ import annotations

from typing import Any

from vm_webapp.ops.health import Health, HealthChecker
from vm_webapp.settings import Settings


class Clock:
    """Monotonic seconds that pass only when a test adds them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def checker(clock: Clock, redis_url: str | None = None, **settings: Any) -> HealthChecker:
    """Return a health checker with a clock that a test controls."""
    return HealthChecker(Settings(**settings), redis_url, clock=clock)


def check(redis_url: str | None = None, **settings: Any) -> Health:
    """Return the verdict of a process that has just started."""
    return checker(Clock(), redis_url, **settings).check()


def reason(health: Health) -> str:
    """Return the one reason why it is not ready."""
    assert health.body(private=False)["status"] == "not_ready"
    (only,) = health.reasons
    return only
