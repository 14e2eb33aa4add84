"""Stages that come and go in a minute, and how long attempts run, from what workers have counted in all."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

import pytest

from tests.support.forms import only_in_full
from vm_webapp.ops.autoscale.rates import ATTEMPTS, Counted, Measured, from_json, measure

STEP = 5.0


@dataclass
class Fleet:
    """A queue and its workers, as they would be measured every five seconds."""

    now: float = 1_000_000.0
    due: int = 0
    running: int = 0
    workers: dict[str, Counted] = field(default_factory=dict)
    measured: Measured | None = None

    def start(self, name: str, *, attempts: int = 0, milliseconds: int = 0) -> None:
        """Start a worker; one that has counted already has been silent for long."""
        since = self.now if not attempts else self.now - 3600
        self.workers[name] = Counted(since, attempts, milliseconds)

    def arrive(self, stages: int) -> None:
        """Let stages become due."""
        self.due += stages

    def claim(self, stages: int) -> None:
        """Let workers claim some."""
        self.due, self.running = self.due - stages, self.running + stages

    def end(self, name: str, stages: int, *, seconds: float = 2.0, told: bool = True) -> None:
        """Let attempts of a worker end."""
        self.running -= stages
        if told:
            self.tell(name, stages, seconds=seconds)

    def tell(self, name: str, stages: int, *, seconds: float = 2.0) -> None:
        """Let a worker tell of attempts that have ended."""
        was = self.workers[name]
        milliseconds = was.milliseconds + round(1000 * seconds * stages)
        self.workers[name] = Counted(was.since, was.attempts + stages, milliseconds)

    def measure(self, *, after: float = STEP) -> Measured:
        """Measure, after so many seconds; the state passes through the database between two measurements."""
        self.now += after
        before = from_json(json.loads(json.dumps(self.measured.as_json()))) if self.measured else None
        assert self.measured is None or before is not None
        self.measured = measure(before, self.now, self.due + self.running, self.workers)
        return self.measured

    def flow(self, steps: int, each: int, *, name: str = "a") -> Measured:
        """Let as many stages come and go in each step."""
        for _ in range(steps):
            self.arrive(each)
            self.claim(each)
            self.end(name, each)
            self.measure()
        assert self.measured is not None
        return self.measured


@pytest.fixture
def fleet() -> Fleet:
    """A fleet with one worker, measured once."""
    fleet = Fleet()
    fleet.start("a")
    fleet.measure()
    return fleet


def rates(measured: Measured) -> tuple[float, float]:
    """Return arrivals and completions a minute."""
    return round(measured.arrivals_per_minute, 6), round(measured.completions_per_minute, 6)


def test_at_first_nothing_is_known() -> None:
    first = Fleet().measure()
    assert (*rates(first), first.mean_seconds) == (0, 0, None)


def test_a_steady_flow_is_measured_as_it_is(fleet: Fleet) -> None:
    assert rates(fleet.flow(24, 10)) == (120, 120)
    assert fleet.measure().mean_seconds == 2.0


def test_what_happened_longer_than_a_minute_ago_does_not_count(fleet: Fleet) -> None:
    fleet.flow(12, 10)
    assert rates(fleet.flow(12, 0)) == (0, 0)
    assert fleet.measure().mean_seconds == 2.0
    assert len(fleet.measure().samples) == 13


def test_a_backlog_that_grows_is_more_arrivals_than_completions(fleet: Fleet) -> None:
    for _ in range(12):
        fleet.arrive(10)
        fleet.claim(4)
        fleet.end("a", 4)
        fleet.measure()
    assert rates(fleet.measure(after=0)) == (120, 48)


def test_stages_that_are_canceled_or_held_back_are_no_negative_arrivals(fleet: Fleet) -> None:
    fleet.arrive(100)
    fleet.measure()
    fleet.due = 0
    fleet.measure()
    fleet.measure()
    assert rates(fleet.flow(9, 1))[0] == 109


def test_a_worker_that_tells_late_invents_no_arrivals(fleet: Fleet) -> None:
    """The stage has left the queue when the worker's counter, which is a heartbeat old, does not know yet."""
    fleet.arrive(10)
    fleet.claim(10)
    fleet.measure()
    fleet.end("a", 10, told=False)
    fleet.measure()
    fleet.tell("a", 10)
    assert rates(fleet.measure()) == (40, 40)


def test_workers_that_come_and_go_count_and_those_that_are_purged_do_not(fleet: Fleet) -> None:
    fleet.flow(6, 10)
    fleet.start("b")
    fleet.flow(3, 10, name="b")
    del fleet.workers["a"]
    fleet.flow(3, 10, name="b")
    assert rates(fleet.measure(after=0)) == (120, 120)


def test_a_worker_that_was_silent_for_long_has_counted_in_a_time_that_is_over(fleet: Fleet) -> None:
    fleet.start("frozen", attempts=5000, milliseconds=9_000_000)
    measured = fleet.measure()
    assert (*rates(measured), measured.mean_seconds) == (0, 0, None)
    fleet.flow(1, 3, name="frozen")
    assert fleet.measure().mean_seconds == 2.0


@pytest.mark.parametrize("after", [301.0, 86_400.0, -1.0, -3600.0])
def test_after_a_long_gap_or_a_step_of_the_clock_it_begins_anew(fleet: Fleet, after: float) -> None:
    fleet.flow(12, 10)
    fleet.arrive(500)
    measured = fleet.measure(after=after)
    assert (*rates(measured), measured.mean_seconds) == (0, 0, 2.0)
    assert rates(fleet.flow(12, 10)) == (120, 120)


def test_the_mean_follows_what_attempts_take_now(fleet: Fleet) -> None:
    fleet.flow(100, 10)
    for _ in range(60):
        fleet.claim(10)
        fleet.due += 10
        fleet.end("a", 10, seconds=8.0)
        measured = fleet.measure()
    assert measured.mean_seconds is not None
    assert 7.5 < measured.mean_seconds <= 8.0
    assert measured.attempts <= ATTEMPTS


@pytest.mark.parametrize("found", [None, {}, [], "x", {"at": "x"}, {"at": 1, "level": 2, "workers": [], "samples": 3}])
def test_what_another_version_wrote_is_as_if_nothing_had_been_measured(found: object) -> None:
    assert from_json(found) is None


@pytest.mark.parametrize("seed", [*range(5), *map(only_in_full, range(5, 20))])
def test_no_rate_is_ever_negative(seed: int) -> None:
    chance = random.Random(seed)
    fleet = Fleet()
    names = [f"w{number}" for number in range(5)]
    for name in names:
        fleet.start(name)
    fleet.measure()
    for _ in range(200):
        fleet.arrive(chance.randrange(20))
        fleet.claim(chance.randint(0, fleet.due))
        name = chance.choice(names)
        if name not in fleet.workers:
            fleet.start(name)
        fleet.end(name, chance.randint(0, fleet.running), seconds=chance.uniform(0, 9))
        if chance.random() < 0.1:
            fleet.due = chance.randint(0, fleet.due)
        if chance.random() < 0.1:
            fleet.workers.pop(chance.choice(names), None)
        measured = fleet.measure(after=chance.choice([0.0, 0.1, 5, 5, 5, 30, 299]))
        assert measured.arrivals_per_minute >= 0
        assert measured.completions_per_minute >= 0
        assert measured.mean_seconds is None or 0 <= measured.mean_seconds <= 9
