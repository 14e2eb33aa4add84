"""The simulated queue behaves as queueing theory says, and its workers as the product's do."""

from __future__ import annotations

import math
import random
from itertools import accumulate
from statistics import mean

import pytest

from benchmarks.simulation import Run, World, simulate


def erlang_c(servers: int, busy: float) -> float:
    """Return the probability that a customer of M/M/c waits."""
    terms = [busy**number / math.factorial(number) for number in range(servers)]
    last = busy**servers / math.factorial(servers) * servers / (servers - busy)
    return last / (sum(terms) + last)


def exponential(chance: random.Random, mean_seconds: float, count: int) -> list[float]:
    """Return so many times with exactly this mean, so that a few of them say as much as many."""
    drawn = [chance.expovariate(1) for _ in range(count)]
    scale = mean_seconds * count / sum(drawn)
    return [scale * one for one in drawn]


@pytest.mark.parametrize(("servers", "busy"), [(4, 3.0), (16, 12.0)])
def test_waits_are_those_of_erlangs_formula(servers: int, busy: float) -> None:
    seconds, count, chance = 10.0, 20_000, random.Random(2)
    arrivals = accumulate(exponential(chance, seconds / busy, count))
    runs = [Run(at, (lasts,)) for at, lasts in zip(arrivals, exponential(chance, seconds, count), strict=True)]
    world = World(runs, seconds=1, slots_each=servers // 2, workers=2)
    waits = simulate(world, lambda figures, now: 2).waits
    waiting = erlang_c(servers, busy)
    assert sum(wait > 0 for wait in waits) / count == pytest.approx(waiting, rel=0.05)
    assert mean(waits) == pytest.approx(waiting * seconds / (servers - busy), rel=0.05)


def test_a_run_carries_on_in_its_slot() -> None:
    found = simulate(World([Run(0, (10, 10)), Run(1, (5,))], 60, slots_each=1), lambda figures, now: 1)
    assert found.waits == [0, 19]
    assert found.ends == {0: 20, 1: 25}


def test_a_worker_takes_its_time_to_start() -> None:
    found = simulate(World([Run(2, (60,)), Run(3, (60,))], 60, slots_each=1, start_seconds=20), lambda _, now: 2)
    assert found.waits == [0, 17], "asked for at 0 s, there at 20 s"
    assert found.supply[:5] == [1, 1, 1, 1, 2]


def test_a_worker_that_drains_ends_its_stage_and_claims_no_other() -> None:
    world = World([Run(0, (12, 12)), Run(0, (12, 12))], 60, slots_each=1, workers=2)
    found = simulate(world, lambda figures, now: 1)
    assert found.waits == [0, 0, 12], "until the other worker has carried its own run to the end"
    assert found.instance_seconds == 60 + 12


def test_nothing_is_claimed_while_the_provider_is_away() -> None:
    found = simulate(World([Run(0, (10, 10)), Run(6, (10,))], 60, away=(5, 30)), lambda figures, now: 1)
    assert found.ends == {0: 40, 1: 40}
