"""docs/autoscaling.md shows the saved figures of the policies, and these are the figures of the product's policy."""

from __future__ import annotations

import json

import pytest

from benchmarks import autoscale
from benchmarks.archetypes import ARCHETYPES
from benchmarks.autoscale_check import MOST_APART
from benchmarks.elasticity import demand, instability, over, time_over, time_under, under
from benchmarks.figures import OURS
from benchmarks.pages import rendered
from benchmarks.policies import LIMITS, POLICIES
from benchmarks.simulation import Run, World
from tests.benchmarks.test_pages import text_of

AGAIN = "run `uv run --group benchmarks python -m benchmarks autoscale`"
MOST_BYTES = 200_000


def test_the_page_shows_the_saved_figures() -> None:
    page = autoscale.PAGE.read_text()
    assert rendered(page, autoscale.blocks()) == page, AGAIN
    assert "(plots/autoscale.png)" in page


def test_the_picture_shows_the_saved_figures() -> None:
    assert text_of(autoscale.PLOT)["Figures"] == autoscale.digest(), AGAIN
    assert autoscale.PLOT.stat().st_size <= MOST_BYTES


def test_the_saved_figures_are_those_of_the_policy() -> None:
    saved = json.loads(autoscale.COMPARED.read_text())
    assert saved["compared"].keys() == ARCHETYPES.keys()
    assert all(found.keys() == POLICIES.keys() for found in saved["compared"].values())
    assert saved["conditions"] == autoscale.conditions(saved["conditions"]["seeds"])
    again = autoscale.figures_of("spike", OURS, saved["conditions"]["seeds"])
    assert again == pytest.approx(saved["compared"]["spike"][OURS]), AGAIN


def test_the_simulation_was_found_to_agree_with_real_workers() -> None:
    found = json.loads(autoscale.CHECKED.read_text())
    assert all(one["apart_percent"] <= MOST_APART for one in found["compared"])


@pytest.mark.parametrize("archetype", ARCHETYPES)
def test_our_policy_holds_the_target_where_the_platform_does_not(archetype: str) -> None:
    compared = json.loads(autoscale.COMPARED.read_text())["compared"][archetype]
    ours, cpu = compared[OURS], compared["CPU"]
    assert ours["under_percent"] < cpu["under_percent"]
    assert ours["wait_p95_seconds"] < cpu["wait_p95_seconds"]
    if ARCHETYPES[archetype].away is None:
        assert ours["wait_p95_seconds"] < 2 * LIMITS.target_wait_seconds


def test_a_supply_is_compared_with_the_demand() -> None:
    need, there = [2, 2, 4, 4], [1, 2, 5, 4]
    assert (under(need, there), over(need, there)) == (0.125, 0.0625)
    assert (time_under(need, there), time_over(need, there)) == (0.25, 0.25)


def test_a_supply_that_moves_against_the_demand_is_unstable() -> None:
    need = [number for number in (1, 2, 3, 3, 3) for _ in range(12)]
    there = [number for number in (1, 2, 2, 2, 1) for _ in range(12)]
    assert instability(need, there) == 0.5


def test_the_demand_is_what_would_let_no_stage_wait() -> None:
    world = World([Run(0, (10, 10)), Run(0, (5,)), Run(4, (10,))], 25, slots_each=1, away=(8, 12))
    assert demand(world, least=1, most=3) == [2, 2, 1, 1, 1], "at 0, 5, 10, 15 and 20 s"
