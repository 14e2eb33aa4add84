"""A limit that processes share: whatever they do, within a window no more gets through than a tenth above the limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from vm_webapp.access.allowance import REQUESTS_PER_TRIP, Allowance, Plan
from vm_webapp.access.rate_windows import WINDOW_SECONDS, Taken, take

pytestmark = pytest.mark.usefixtures("database")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALLERS, ORDER = count(), count()


@dataclass
class Process:
    """A process with a monotonic clock of its own."""

    allowance: Allowance
    clock_offset: float
    requests: int = 0
    trips: int = 0
    asking: bool = False


@dataclass
class Fleet:
    """Processes that share one caller's limit; all times are seconds after noon."""

    plan: Plan
    processes: list[Process]
    caller: str = field(default_factory=lambda: f"requests {next(CALLERS)}")
    admitted: list[float] = field(default_factory=list)
    windows: set[datetime] = field(default_factory=set)
    _steps: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)  # a heap: what happens when

    @classmethod
    def of(cls, number: int, limit: int) -> Fleet:
        """Return a fleet of so many processes."""
        plan = Plan.of(limit, number)
        offsets = [1000.0 * n for n in range(number)]
        return cls(plan, [Process(Allowance(plan, offset), offset) for offset in offsets])

    def send(self, to: int, requests: int, *, at: float, delay: float) -> None:
        """Send requests to a process at one moment; an answer of the database takes this long."""
        process = self.processes[to % len(self.processes)]
        now = at + process.clock_offset
        for _ in range(requests):
            while self._steps and self._steps[0][0] <= at:
                heappop(self._steps)[2]()
            process.requests += 1
            if process.allowance.spend(now):
                self.admitted.append(at)
                wants = process.allowance.should_take(now)
            else:
                wants = process.allowance.may_get_more(now)
            if wants and not process.asking:
                self._ask(process, at, delay)

    def most_within_a_window(self) -> int:
        """Return how many requests were admitted at most within one of the shared windows."""
        begins = [(began - NOON).total_seconds() for began in self.windows]
        return max(sum(began <= at < began + WINDOW_SECONDS for at in self.admitted) for began in begins)

    def _ask(self, process: Process, asked_at: float, delay: float) -> None:
        process.asking = True
        process.trips += 1
        wanted = process.allowance.ask()
        self._then(asked_at + delay / 2, lambda: self._take(process, wanted, asked_at, delay))

    def _take(self, process: Process, wanted: int, asked_at: float, delay: float) -> None:
        at = NOON + timedelta(seconds=asked_at + delay / 2)
        taken = take(self.caller, wanted, limit=self.plan.limit, at=at)
        self.windows.add(taken.began_at)
        self._then(asked_at + delay, lambda: self._deliver(process, taken, asked_at, asked_at + delay))

    def _deliver(self, process: Process, taken: Taken, asked_at: float, at: float) -> None:
        process.asking = False
        offset = process.clock_offset
        process.allowance.add(taken, asked_at=asked_at + offset, now=at + offset)

    def _then(self, at: float, step: Callable[[], None]) -> None:
        heappush(self._steps, (at, next(ORDER), step))


def send_at_random(fleet: Fleet, chance: Random, *, delays: list[float]) -> None:
    """Send bursts of requests to any of the processes for some minutes."""
    pace, at = chance.choice([0.2, 2.0, 20.0]), 0.0
    while at < 200 and len(fleet.admitted) < 20_000:
        at += chance.random() * pace
        fleet.send(chance.randrange(12), chance.randint(1, 300), at=at, delay=chance.choice(delays))


@pytest.mark.parametrize("seed", range(40))
def test_within_a_window_at_most_a_tenth_more_than_the_limit_gets_through(seed: int) -> None:
    chance = Random(seed)
    fleet = Fleet.of(chance.randint(1, 12), chance.choice([100, 250, 600, 6000]))
    send_at_random(fleet, chance, delays=[0.0, 0.01, 0.5, 8.0])
    assert fleet.windows
    assert fleet.most_within_a_window() <= fleet.plan.limit * 1.1


@pytest.mark.parametrize("seed", range(20))
def test_a_portion_serves_twenty_requests_at_least(seed: int) -> None:
    chance = Random(seed)
    fleet = Fleet.of(chance.randint(1, 4), chance.choice([6000, 60_000]))
    send_at_random(fleet, chance, delays=[0.0])
    assert fleet.windows
    assert all(each.trips * REQUESTS_PER_TRIP <= each.requests for each in fleet.processes)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_whole_limit_is_given_to_callers_who_spread_over_the_processes(processes: int) -> None:
    fleet = Fleet.of(processes, 6000)
    for burst in range(1300):
        fleet.send(burst, 5, at=0.01 * burst, delay=0.0)
    assert 6000 <= len(fleet.admitted) <= 6600


def test_a_refused_caller_who_goes_on_costs_one_trip_more_for_each_process_and_window() -> None:
    fleet = Fleet.of(2, 100)
    for step in range(500):
        fleet.send(step, 10, at=0.1 * step, delay=0.0)
    trips = sum(each.trips for each in fleet.processes)
    assert 100 <= len(fleet.admitted) <= 110
    assert trips <= 100 / 24 + 3
