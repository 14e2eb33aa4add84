"""The database's clock steps back or forward: nothing waits for longer than before, and no living worker loses work."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.ops.readiness import Clock, checker
from tests.support.actors import OPERATOR
from tests.support.clock import step_clock
from tests.support.fleet import beat, change
from tests.support.runs import create, read, types
from tests.support.waiting import eventually
from tests.support.work import claim_next
from tests.worker.conftest import MakePulse
from tests.worker.ticks import orphan, shift_ticks, tick
from vm_webapp.access.keys import create_key, find_key
from vm_webapp.execution.leases import renew_leases
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.runs import lifecycle
from vm_webapp.runs.due import find_due
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.states import LEASE_SECONDS, Failure

BACK = -600.0
FORWARD = 600.0


def seconds_until(column: str, table: str = "stages") -> list[float]:
    """Return how many seconds ahead of the clock the times of a column are."""
    found = read(f"SELECT extract(epoch FROM {column} - clock_timestamp())::float8 AS s FROM {table} ORDER BY 1")
    return [each["s"] for each in found if each["s"] is not None]


def test_a_steadiness_that_begins_in_the_future_begins_now(make_pulse: MakePulse) -> None:
    created, pulse = orphan(), make_pulse()
    tick(pulse, 1.0)
    change("UPDATE worker_heartbeats SET steady_since = clock_timestamp() + interval '10 min'")
    tick(pulse, 2.0)
    assert -1 < seconds_until("steady_since", "worker_heartbeats")[0] <= 0
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 4.0)
    assert types(created.run.id)[-1] == "stage.rescued"


def test_a_dead_workers_stage_is_rescued_within_a_lease_of_the_step(make_pulse: MakePulse, database: str) -> None:
    pulse = make_pulse()
    tick(pulse, 1.0)
    created = create()
    lifecycle.claim_stage(created.stage_id, Claimant(uuid4(), "offline"), token=uuid4())
    step_clock(database, BACK)
    tick(pulse, 2.0)
    assert seconds_until("lease_expires_at")[0] <= LEASE_SECONDS
    step_clock(database, LEASE_SECONDS)  # so much time passes
    write_heartbeat(WorkerIdentity(uuid4(), "offline", 4), Heartbeat("working", 0))
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 5.0)
    assert types(created.run.id)[-1] == "stage.rescued"


@pytest.mark.parametrize("seconds", [-30.0, BACK])
def test_what_is_due_is_due_again_at_once(make_pulse: MakePulse, database: str, seconds: float) -> None:
    pulse = make_pulse()
    tick(pulse, 1.0)
    created = create()
    step_clock(database, seconds)
    tick(pulse, 2.0)
    # Later by what had passed between the newest heartbeat and the stage's time: a tick of one second at most.
    eventually(lambda: find_due("offline", 1, cap=None).ids == (created.stage_id,), "it is due", seconds=10)


def test_a_backoff_and_a_pause_last_no_longer_than_before(make_pulse: MakePulse, database: str) -> None:
    pulse = make_pulse()
    tick(pulse, 1.0)
    for _ in range(5):
        run = create(auto_approve=True).run
        failure = Failure("llm_overloaded", "503", permanent=False, retry_after=60, overload=True)
        assert lifecycle.fail_attempt_if_held(claim_next(run.id), failure, jitter=0) == "retrying"
    tick(pulse, 2.0)
    before = (seconds_until("available_at"), seconds_until("paused_until", "providers"))
    assert before[1], "the fifth failure pauses the provider"
    step_clock(database, BACK)
    tick(pulse, 3.0)
    after = (seconds_until("available_at"), seconds_until("paused_until", "providers"))
    assert max(after[0]) == pytest.approx(max(before[0]), abs=2)
    assert after[1] == pytest.approx(before[1], abs=2)


def test_the_step_is_logged_once_and_followed_once(
    make_pulse: MakePulse, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    pulse = make_pulse()
    tick(pulse, 1.0)
    beat()
    step_clock(database, BACK)
    tick(pulse, 2.0, 3.0)
    (logged,) = [record for record in caplog.records if record.message == "clock.stepped_back"]
    assert vars(logged)["seconds"] == pytest.approx(-BACK, abs=3)


def test_a_worker_that_died_before_the_step_does_not_come_back_to_life(make_pulse: MakePulse, database: str) -> None:
    beat()
    shift_ticks(last=-BACK)  # its row would be as old as the step
    pulse = make_pulse()
    tick(pulse, 1.0)
    step_clock(database, BACK)
    tick(pulse, 2.0)
    assert len(read("SELECT worker_id FROM worker_heartbeats WHERE last_tick_at > now() - interval '6 s'")) == 1


@pytest.mark.parametrize("seconds", [BACK, FORWARD])
def test_living_workers_keep_their_leases(make_pulse: MakePulse, database: str, seconds: float) -> None:
    """The clock steps while a stage runs; another worker looks for expired leases before its own renews."""
    other = make_pulse()
    tick(other, 1.0)
    shift_ticks(steady=100)
    claim = claim_next(create().run.id)
    step_clock(database, seconds)
    tick(other, 3.0, 5.0)
    assert renew_leases({claim.token: claim.seconds_left}) == {claim.token}
    tick(other, 7.0)
    assert read("SELECT sum(rescues)::int AS n FROM stages")[0]["n"] == 0
    assert 0 < seconds_until("lease_expires_at")[0] <= LEASE_SECONDS
    assert seconds_until("deadline_at")[0] == pytest.approx(claim.seconds_left, abs=3 if seconds < 0 else 5)


def test_without_a_living_worker_readiness_says_so_however_far_the_clock_steps_back(database: str) -> None:
    beat()
    own = checker(Clock())
    assert own.check().ready
    step_clock(database, BACK)
    (reason,) = own.check().reasons
    assert reason.startswith("no worker has sent a heartbeat")


def test_the_use_of_a_key_is_recorded_again_after_a_step_back(database: str) -> None:
    secret = create_key("ann", actor=OPERATOR).secret
    assert find_key(secret) is not None
    step_clock(database, BACK)
    assert find_key(secret) is not None
    assert seconds_until("last_used_at", "api_keys")[0] <= 0
