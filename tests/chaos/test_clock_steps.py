"""The database's clock steps while workers run: a killed one's stages run again in time, a living one keeps its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest

from tests.chaos.harness import Fleet
from tests.chaos.ledger import Orphan, assert_nothing_lost, counted, create_many, wait_for_all
from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.support.clock import step_clock
from tests.support.forms import only_in_full
from tests.support.runs import read
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

AGAIN_WITHIN_SECONDS = 20.0
Step = Callable[[str], None]


def steadiness_ahead(database: str) -> None:
    """Only the time since which the fleet's heartbeats are steady lies in the future."""
    with closing(psycopg2.connect(database)) as session, session, session.cursor() as cursor:
        cursor.execute("UPDATE worker_heartbeats SET steady_since = clock_timestamp() + interval '10 min'")


def back(database: str) -> None:
    """Back by ten minutes."""
    step_clock(database, -600)


def forward(database: str) -> None:
    """Forward by ten minutes."""
    step_clock(database, 600)


def running_again(orphans: list[Orphan]) -> bool:
    attempts = {
        (found["run_id"], found["key"]): found["attempt"] for found in read("SELECT run_id, key, attempt FROM stages")
    }
    return all(attempts[orphan.run_id, orphan.stage] > orphan.attempt for orphan in orphans)


@pytest.mark.parametrize("step", [only_in_full(steadiness_ahead), only_in_full(back), only_in_full(forward)])
def test_a_killed_workers_stages_run_again_and_no_other_is_rescued(
    fleet: Fleet, model: ModelServer, database: str, step: Step
) -> None:
    model.script = lambda body: Behaviour(delay=12.0)
    runs = len(create_many(4, "content_calendar", send_hints=False))
    victim, _ = fleet.start_and_wait(2, threads=2)
    eventually(lambda: model.in_flight == 4, "both workers have stages in flight")
    step(database)
    orphans, killed = fleet.kill(victim), time.monotonic()
    assert orphans
    # Queued by the clock before the step, as far as the workers that are alive know.
    model.script = lambda body: Behaviour(delay=0.2)
    eventually(lambda: running_again(orphans), "the stages run again", seconds=AGAIN_WITHIN_SECONDS)
    print(f"{step.__name__}: {len(orphans)} stages ran again {time.monotonic() - killed:.1f} s after the kill")
    wait_for_all(seconds=40)
    assert counted()["rescues"] == len(orphans)
    assert_nothing_lost(runs)
