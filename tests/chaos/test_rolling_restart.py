"""Workers are replaced one after another, as a deployment does it: nothing fails and nothing is counted against it."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Fleet
from tests.chaos.ledger import assert_nothing_lost, counted, create_many, wait_for_all
from tests.fakes.model_server import ModelServer, random_script
from tests.support.processes import Program
from tests.support.runs import read

pytestmark = pytest.mark.timeout(600)


def replace_oldest(fleet: Fleet, threads: int) -> Program:
    """Start a new worker and drain the oldest one; return that one when it has ended."""
    fleet.start_and_wait(threads=threads)
    leaving = fleet.workers.pop(0)
    assert leaving.stop(seconds=40) == 0, leaving.output()
    return leaving


def test_a_rolling_restart_costs_nothing(fleet: Fleet, model: ModelServer, full: bool) -> None:
    threads, replacements, batch = (16, 12, 60) if full else (4, 2, 8)
    model.script = random_script(0.2, 2.0, 0.0, seed=7) if full else random_script(0.1, 0.5, 0.0, seed=7)
    fleet.start_and_wait(2, threads=threads)
    runs = 0
    for _ in range(replacements):
        runs += len(create_many(batch))
        replace_oldest(fleet, threads)
    wait_for_all(seconds=120)

    assert_nothing_lost(runs)
    counters = counted()
    assert counters["failures"] == counters["rescues"] == 0
    states = read("SELECT state, count(*) AS n FROM worker_heartbeats GROUP BY state")
    assert {row["state"]: row["n"] for row in states} == {"working": 2, "stopped": replacements}
    print(f"{replacements} workers replaced under load, {runs} runs completed, {counters}")


def test_a_worker_that_may_not_wait_hands_its_stages_back(fleet: Fleet, model: ModelServer) -> None:
    model.script = random_script(1.0, 1.2, 0.0, seed=7)
    leaving, _ = fleet.start_and_wait(2, threads=4, VM_DRAIN_SECONDS="0.2")
    create_many(6, "content_calendar")
    model.wait_until(lambda server: server.in_flight == 6)
    fleet.workers.remove(leaving)
    assert leaving.stop(seconds=10) == 0
    wait_for_all(seconds=30)

    counters = counted()
    assert counters["failures"] == counters["rescues"] == 0
    assert counters["releases"] > 0
    assert_nothing_lost(6)
