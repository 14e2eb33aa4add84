"""The cap on model calls holds across workers, is fully used, and recovers from a killed worker."""

from __future__ import annotations

import time

import pytest

from tests.chaos.harness import Fleet
from tests.chaos.ledger import assert_nothing_lost, completed_stages, counted, create_many, wait_for_all
from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

STAGES = 3


def test_calls_in_flight_never_exceed_the_cap_and_use_it(fleet: Fleet, model: ModelServer, full: bool) -> None:
    cap, runs, seconds = (30, 400, 1.0) if full else (5, 12, 0.8)
    model.script = lambda body: delayed(seconds)
    create_many(runs, send_hints=False)
    fleet.start_and_wait(3, threads=32, VM_LLM_MAX_CONCURRENCY=str(cap))
    eventually(lambda: completed_stages() >= cap, "work is under way", seconds=30)
    before, began = completed_stages(), time.monotonic()
    enough = STAGES * runs * 3 // 4
    eventually(lambda: completed_stages() >= enough, f"{enough} stages", seconds=120)
    pace = (completed_stages() - before) / (time.monotonic() - began)
    wait_for_all(seconds=60)

    assert_nothing_lost(runs)
    print(f"cap {cap}: most in flight {model.most_in_flight}; {pace:.1f} stages/s of {cap / seconds:.1f} possible")
    assert model.most_in_flight == cap
    assert pace > 0.8 * cap / seconds


@pytest.mark.only_in_full
def test_a_rescue_frees_the_killed_workers_share_of_the_cap(fleet: Fleet, model: ModelServer) -> None:
    cap, runs = 30, 400
    model.script = lambda body: delayed(1.0)
    create_many(runs, send_hints=False)
    fleet.start_and_wait(3, threads=32, VM_LLM_MAX_CONCURRENCY=str(cap))
    eventually(lambda: model.in_flight == cap, "the cap is used")
    lost = len(fleet.kill(fleet.workers[0]))
    eventually(lambda: counted()["rescues"] == lost, "its stages are rescued", seconds=25)
    eventually(lambda: model.in_flight == cap, "the cap is used again", seconds=5)
    wait_for_all(seconds=120)

    assert_nothing_lost(runs)
    assert model.most_in_flight == cap
    print(f"a worker was killed with {lost} of {cap} calls: rescued, and the cap was fully used again")
