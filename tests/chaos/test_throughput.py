"""A fault lasts long while more work is queued than can be done: the throughput recovers by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos import faults
from tests.chaos.clients import RetryingClient
from tests.chaos.faults import Fault
from tests.chaos.ledger import (
    assert_nothing_lost,
    counted,
    create_many,
    database_now,
    failures,
    open_runs,
    read_when_up,
    wait_for_all,
)
from tests.chaos.pace import seconds_until_back, usual_pace
from tests.chaos.stack import running_stack
from tests.fakes.model_server import random_script
from tests.support.runs import read
from vm_webapp.errors import ConnectionsTaken

pytestmark = [pytest.mark.timeout(900), pytest.mark.only_in_full]

RUNS = 2000
BACK_WITHIN_SECONDS = 60
NEXT_ACCEPTED_SECONDS = 30

# How many seconds each fault lasts.
FAILURES: dict[Fault, float] = {
    faults.postgres_restarted: 0,
    faults.postgres_stopped: 60,
    faults.postgres_hanging: 60,
    faults.postgres_slow: 60,
    faults.sessions_killed: 20,
    faults.sessions_taken: 20,
    faults.pools_frozen: 60,
    faults.runs_locked: 20,
    faults.redis_stopped: 60,
    faults.redis_flushed: 60,
    faults.redis_slow: 60,
    faults.api_killed: 10,
}


@pytest.mark.parametrize("fault", FAILURES)
def test_throughput_comes_back_after_a_long_failure(tmp_path: Path, fault: Fault) -> None:
    script = random_script(0.2, 2.0, 0.0, seed=7)
    seconds = FAILURES[fault]
    slow = fault is faults.postgres_slow
    # One connection for sixteen threads, beside that of the maintenance loop: while each statement takes 0.6 s, they
    # wait for it for longer than the pool lets them.
    few = {"VM_WORKER_CONNECTIONS": "2"} if slow else None
    with running_stack(tmp_path, script, threads=16, far=slow, worker_env=few) as stack:
        pids = stack.fleet.pids()
        created = len(create_many(RUNS))
        with RetryingClient(lambda: stack.api, every=0.5) as client:
            usual = usual_pace()
            with fault(stack):
                time.sleep(seconds)
            back = database_now()
            client.wait_for_another(seconds=NEXT_ACCEPTED_SECONDS)
            took = seconds_until_back(usual, back, within=BACK_WITHIN_SECONDS)
        assert open_runs() > len(client.accepted), "there was work to do all the time"
        made = {row["id"] for row in read("SELECT id FROM runs")}
        assert set(client.run_ids) <= made
        assert len(made) == created + len(set(client.run_ids)), "no request was done twice"
        # Executing the rest would take long and show nothing new: every attempt that met the fault has ended by now.
        read_when_up("DELETE FROM runs WHERE status = 'queued' RETURNING id")
        left = int(read_when_up("SELECT count(*) AS n FROM runs")[0]["n"])
        wait_for_all(seconds=120)
        print(
            f"{fault.__name__} for {seconds:g} s: {left} runs completed,"
            f" 95 % of {usual:.1f} stages/s after {took:.0f} s; {len(client.accepted)} requests accepted in"
            f" {client.slowest * 1000:.0f} ms at most, {client.refused} refused; {counted()}"
        )
        assert_nothing_lost(left)
        assert failures() == []
        assert counted()["failures"] == 0
        if slow:
            assert any(ConnectionsTaken.todo in worker.output() for worker in stack.fleet.workers), (
                "no pool was used up"
            )
        assert counted()["rescues"] == 0
        assert stack.fleet.pids() == pids
