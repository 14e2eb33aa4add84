"""The loads on which policies are compared: the usual archetypes, and three hard ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.simulation import Run, World

STAGES = 3  # of a run
STAGE_SECONDS, SPREAD = 40.0, 0.6  # the mean of a stage, and the sigma of its log-normal distribution
RUN_SECONDS = STAGES * STAGE_SECONDS
HOUR = 3600.0
SLOW_START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Archetype:
    """A load.

    Attributes:
        says: what it is, for people.
        seconds: how long it lasts.
        busy: how many slots it keeps busy at a time of the load, at the mean.
        start_seconds: how long a worker takes to start.
        away: from when until when the provider is away.
    """

    says: str
    seconds: float
    busy: Callable[[float], float]
    start_seconds: float = 30.0
    away: tuple[float, float] | None = None

    def world(self, seed: int) -> World:
        """Return a world in which runs arrive by chance, always the same for a seed."""
        chance = random.Random(seed)
        most = max(self.busy(second) for second in range(int(self.seconds))) / RUN_SECONDS
        runs, at = [], 0.0
        # Thinning: arrivals at the highest rate, each kept with the share of the rate at its time.
        while (at := at + chance.expovariate(most)) < self.seconds:
            if chance.random() < self.busy(at) / RUN_SECONDS / most:
                runs.append(Run(at, tuple(stage_seconds(chance) for _ in range(STAGES))))
        return World(runs, self.seconds, start_seconds=self.start_seconds, away=self.away)


def stage_seconds(chance: random.Random, mean: float = STAGE_SECONDS) -> float:
    """Return how long a stage takes: log-normal, with this mean."""
    return chance.lognormvariate(math.log(mean) - SPREAD**2 / 2, SPREAD)


def _spike(second: float) -> float:
    # One run a second for a minute.
    return RUN_SECONDS if 1800 <= second < 1860 else 4.0


def _ramp(second: float) -> float:
    return 4 + 76 * (1 - abs(second - HOUR) / HOUR)


def _periodic(second: float) -> float:
    return 36 - 30 * math.cos(2 * math.pi * second / HOUR)


def _night(second: float) -> float:
    # Evening, a night in which nearly nothing arrives, and the morning within half an hour.
    hours = second / HOUR
    if hours < 2:
        return 48 - 23.5 * hours
    return 1.0 if hours < 7 else min(48.0, 1 + 94 * (hours - 7))


ARCHETYPES: dict[str, Archetype] = {
    "stationary": Archetype("36 slots are busy at the mean", 3 * HOUR, lambda _: 36.0),
    "ramp": Archetype("from 4 to 80 busy slots in an hour, and back", 2 * HOUR, _ramp),
    "periodic": Archetype("6 to 66 busy slots, each hour", 3 * HOUR, _periodic),
    "spike": Archetype("60 runs within a minute upon 4 busy slots", 2 * HOUR, _spike),
    "night": Archetype("48 busy slots, five hours of 1, and 48 again within half an hour", 9 * HOUR, _night),
    "outage": Archetype(
        "36 busy slots; the provider is away for 20 minutes", 3 * HOUR, lambda _: 36.0, away=(HOUR, HOUR + 1200)
    ),
    "slow starts": Archetype(
        "the periodic load; a worker takes 3 minutes to start", 3 * HOUR, _periodic, SLOW_START_SECONDS
    ),
}
