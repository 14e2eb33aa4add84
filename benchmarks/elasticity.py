"""How well a supply of workers follows a demand, by the elasticity metrics of SPEC RG (SPEC-RG-2016-01)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.simulation import EVERY_SECONDS, Simulated, World
from tests.chaos.ledger import quantile

MINUTE_STEPS = int(60 / EVERY_SECONDS)


def demand(world: World, *, least: int, most: int) -> list[int]:
    """Return how many workers the load needs, every ``EVERY_SECONDS``, if no stage had to wait.

    The stages of a run follow one another from its arrival, as if there were always a slot; while the provider is
    away, those that would begin then wait for its return.
    """
    changes: list[tuple[float, int]] = []
    for run in world.runs:
        at = run.at
        for seconds in run.stages:
            if world.away and world.away[0] <= at < world.away[1]:
                at = world.away[1]
            changes += [(at, 1), (at + seconds, -1)]
            at += seconds
    changes.sort()
    found, busy, place = [], 0, 0
    for step in range(math.ceil(world.seconds / EVERY_SECONDS)):
        while place < len(changes) and changes[place][0] <= step * EVERY_SECONDS:
            busy += changes[place][1]
            place += 1
        found.append(max(least, min(most, math.ceil(busy / world.slots_each))))
    return found


def under(demand: Sequence[int], supply: Sequence[int]) -> float:
    """Return the accuracy of under-provisioning: what was missing, as a mean share of the demand; 0 is best."""
    return sum(max(0, need - there) / need for need, there in zip(demand, supply, strict=True)) / len(demand)


def over(demand: Sequence[int], supply: Sequence[int]) -> float:
    """Return the accuracy of over-provisioning: what was too much, as a mean share of the demand; 0 is best."""
    return sum(max(0, there - need) / need for need, there in zip(demand, supply, strict=True)) / len(demand)


def time_under(demand: Sequence[int], supply: Sequence[int]) -> float:
    """Return the share of the time in which workers were missing."""
    return sum(there < need for need, there in zip(demand, supply, strict=True)) / len(demand)


def time_over(demand: Sequence[int], supply: Sequence[int]) -> float:
    """Return the share of the time in which there were too many workers."""
    return sum(there > need for need, there in zip(demand, supply, strict=True)) / len(demand)


def instability(demand: Sequence[int], supply: Sequence[int]) -> float:
    """Return the share of minutes in which supply and demand did not change in the same direction."""
    signs = [
        [(after > before) - (after < before) for before, after in pairwise(numbers[::MINUTE_STEPS])]
        for numbers in (demand, supply)
    ]
    return float(sum(one != other for one, other in zip(*signs, strict=True))) / len(signs[0])


def measured(world: World, found: Simulated, *, least: int, most: int) -> dict[str, float]:
    """Return the figures of one simulated world, by their keys."""
    needed = demand(world, least=least, most=most)
    supply = found.supply[: len(needed)]
    waits = sorted(found.waits)
    return {
        "under_percent": 100 * under(needed, supply),
        "over_percent": 100 * over(needed, supply),
        "time_under_percent": 100 * time_under(needed, supply),
        "time_over_percent": 100 * time_over(needed, supply),
        "instability_percent": 100 * instability(needed, supply),
        "wait_p95_seconds": quantile(waits, 0.95),
        "wait_p99_seconds": quantile(waits, 0.99),
        "instance_hours": found.instance_seconds / 3600,
        "changes": float(sum(before != after for before, after in pairwise(found.asked[: len(needed)]))),
    }
