"""Workers are replaced one after another, as a deployment does: no stage fails, and none is rescued."""

from __future__ import annotations

import signal
from uuid import UUID

import pytest

from tests.chaos.harness import Fleet, every
from tests.chaos.ledger import assert_nothing_lost, counted, create_many, wait_for_all
from tests.fakes.model_server import ModelServer, random_script
from tests.support.processes import Program
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)


def states() -> dict[str, int]:
    """Return how many workers are in each state."""
    counted = read("SELECT state, count(*) AS n FROM worker_heartbeats GROUP BY state")
    return {row["state"]: row["n"] for row in counted}


def test_a_rolling_restart_costs_nothing(fleet: Fleet, model: ModelServer, full: bool) -> None:
    """At a steady pace, start a worker and drain the oldest one, even if the previous one still drains."""
    threads, batch = (16, 60) if full else (4, 8)
    seconds, during = (10.0, 120.0) if full else (3.0, 6.0)
    model.script = random_script(0.2, 2.0, 0.0, seed=7) if full else random_script(0.1, 0.5, 0.0, seed=7)
    fleet.start_and_wait(2, threads=threads)
    leaving: list[Program] = []
    runs: list[UUID] = []

    def replace_oldest() -> None:
        runs.extend(create_many(batch))
        fleet.start(threads=threads)
        leaving.append(fleet.workers.pop(0))
        leaving[-1].signal(signal.SIGTERM)

    replacements = every(seconds, during=during, do=replace_oldest)
    ended = [worker.wait(seconds=40) for worker in leaving]
    wait_for_all(seconds=120)

    assert ended == [0] * replacements
    assert_nothing_lost(len(runs))
    counters = counted()
    assert counters["failures"] == counters["rescues"] == 0
    # The last worker may still be starting.
    eventually(lambda: states() == {"working": 2, "stopped": replacements}, f"two working: {states()}", seconds=40)
    print(f"{replacements} workers replaced in {during:.0f} s under load, {len(runs)} runs completed, {counters}")


@pytest.mark.only_in_full
def test_a_worker_with_a_short_drain_releases_its_stages(fleet: Fleet, model: ModelServer) -> None:
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
