"""A simulated queue with workers that start, claim, drain and go, driven by a policy: discrete events, no real time.

A run is a chain of stages, as in the product: the slot that ended one stage claims the run's next one. Stages are
claimed by age as soon as a slot is free. A draining worker ends the stages that it has and claims none. While the
provider is away no stage is claimed; those in flight end.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vm_webapp.ops.autoscale.shapes import Figures

EVERY_SECONDS = 5.0  # between two decisions
MINUTE = 60.0
MEAN_OF = 200  # attempts, of which the mean time is known

Policy = Callable[[Figures, float], int]
"""Returns the number of workers from the figures and the seconds since the simulation began."""


@dataclass(frozen=True, slots=True)
class Run:
    """Arrives so many seconds after the beginning, and has stages of so many seconds each."""

    at: float
    stages: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class World:
    """What a policy meets.

    Attributes:
        runs: in the order in which they arrive.
        seconds: how long it lasts; the policy decides on, until all work has ended.
        slots_each: stages that a worker runs at a time.
        start_seconds: how long a worker takes to start.
        workers: how many there are at the beginning.
        away: from when until when the provider is away; None for never.
    """

    runs: Sequence[Run]
    seconds: float
    slots_each: int = 8
    start_seconds: float = 30.0
    workers: int = 1
    away: tuple[float, float] | None = None


@dataclass(slots=True)
class Simulated:
    """What happened.

    Attributes:
        waits: seconds that each stage was due before it was claimed, for each that was not carried on with.
        ends: when each run ended, by its number.
        supply: number of workers that claim, every ``EVERY_SECONDS``.
        asked: number of workers that the policy asked for, likewise.
        oldest: seconds for which the oldest stage had been due, likewise.
        instance_seconds: of all workers, from their start to their end, up to the end of the world.
    """

    waits: list[float] = field(default_factory=list)
    ends: dict[int, float] = field(default_factory=dict)
    supply: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    oldest: list[float] = field(default_factory=list)
    instance_seconds: float = 0.0


@dataclass(slots=True)
class _Worker:
    began: float
    working: bool = False
    draining: bool = False
    running: int = 0


def simulate(world: World, policy: Policy) -> Simulated:
    """Return what happens to this world under a policy."""
    return _Simulation(world, policy).run()


class _Simulation:
    def __init__(self, world: World, policy: Policy) -> None:
        self.world, self.policy = world, policy
        self.now = 0.0
        self.found = Simulated()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._due: deque[tuple[float, int, int]] = deque()  # since when, number of the run, number of the stage
        self._workers = [_Worker(0.0, working=True) for _ in range(world.workers)]
        self._arrived: deque[float] = deque()
        self._ended: deque[float] = deque()
        self._lasted: deque[float] = deque(maxlen=MEAN_OF)

    def run(self) -> Simulated:
        for number, run in enumerate(self.world.runs):
            self._at(run.at, lambda number=number: self._make_due(number, 0))  # type: ignore[misc]
        if self.world.away:
            self._at(self.world.away[1], self._claim)
        self._at(0.0, self._tick)
        while self._events:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = max(self.now, self.world.seconds)
        for worker in self._workers:
            self._count_instance(worker)
        return self.found

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _make_due(self, run: int, stage: int) -> None:
        self._arrived.append(self.now)
        self._due.append((self.now, run, stage))
        self._claim()

    def _claim(self) -> None:
        away = self.world.away
        if not self._due or (away and away[0] <= self.now < away[1]):
            return
        for worker in self._workers:
            while self._due and worker.working and not worker.draining and worker.running < self.world.slots_each:
                since, run, stage = self._due.popleft()
                self.found.waits.append(self.now - since)
                worker.running += 1
                self._begin(worker, run, stage)

    def _begin(self, worker: _Worker, run: int, stage: int) -> None:
        lasts = self.world.runs[run].stages[stage]
        self._at(self.now + lasts, lambda: self._end(worker, run, stage, lasts))

    def _end(self, worker: _Worker, run: int, stage: int, lasted: float) -> None:
        self._ended.append(self.now)
        self._lasted.append(lasted)
        more = stage + 1 < len(self.world.runs[run].stages)
        away = self.world.away
        if more and not worker.draining and not (away and away[0] <= self.now < away[1]):
            self._arrived.append(self.now)
            self._begin(worker, run, stage + 1)
            return
        worker.running -= 1
        if not more:
            self.found.ends[run] = self.now
        if worker.draining and not worker.running:
            self._remove(worker)
        if more:
            self._make_due(run, stage + 1)
        else:
            self._claim()

    def _tick(self) -> None:
        asked = self.policy(self._figures(), self.now)
        self.found.asked.append(asked)
        self.found.supply.append(sum(worker.working and not worker.draining for worker in self._workers))
        self.found.oldest.append(self.now - self._due[0][0] if self._due else 0.0)
        self._scale(asked)
        if self.now + EVERY_SECONDS < self.world.seconds or self._due or any(one.running for one in self._workers):
            self._at(self.now + EVERY_SECONDS, self._tick)

    def _scale(self, asked: int) -> None:
        staying = [worker for worker in self._workers if not worker.draining]
        for _ in range(asked - len(staying)):
            worker = _Worker(self.now)
            self._workers.append(worker)
            self._at(self.now + self.world.start_seconds, lambda worker=worker: self._ready(worker))  # type: ignore[misc]
        for worker in staying[asked:]:
            worker.draining = True
            if not worker.running:
                self._remove(worker)

    def _ready(self, worker: _Worker) -> None:
        if not worker.draining:
            worker.working = True
            self._claim()

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._count_instance(worker)

    def _count_instance(self, worker: _Worker) -> None:
        self.found.instance_seconds += max(0.0, min(self.now, self.world.seconds) - worker.began)

    def _figures(self) -> Figures:
        for times in (self._arrived, self._ended):
            while times and times[0] <= self.now - MINUTE:
                times.popleft()
        working = [worker for worker in self._workers if worker.working and not worker.draining]
        return Figures(
            queued=len(self._due),
            due=len(self._due),
            running=sum(worker.running for worker in self._workers),
            oldest_due_seconds=self.now - self._due[0][0] if self._due else 0.0,
            # As the product counts: a pause that ends by itself holds nothing back.
            claimable=len(self._due),
            stopped=False,
            arrivals_per_minute=float(len(self._arrived)),
            completions_per_minute=float(len(self._ended)),
            mean_stage_seconds=sum(self._lasted) / len(self._lasted) if self._lasted else None,
            workers=len(working),
            starting=sum(not worker.working and not worker.draining for worker in self._workers),
            draining=sum(worker.draining for worker in self._workers),
            slots=len(working) * self.world.slots_each,
            in_flight=sum(worker.running for worker in working),
            slots_each=self.world.slots_each,
        )
