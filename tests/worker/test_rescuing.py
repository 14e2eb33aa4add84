"""Workers rescue the stages of dead workers, and renew their own leases meanwhile."""

from __future__ import annotations

from uuid import UUID, uuid4

from tests.support.runs import read, types
from tests.worker.conftest import MakePulse
from tests.worker.ticks import orphan, shift_ticks, tick
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.heartbeats import LONGEST_GAP_SECONDS, Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.runs.lifecycle import RESCUE_BATCH
from vm_webapp.runs.signals import run_changed, stage_due
from vm_webapp.runs.states import LEASE_SECONDS, MAX_RESCUES


def make_slow(status: str, seconds: float) -> None:
    """Make each update of a stage to a status take so many seconds."""
    with transaction():
        execute(
            f"""
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;
            CREATE TRIGGER slow AFTER UPDATE ON stages FOR EACH ROW WHEN (NEW.status = '{status}')
                EXECUTE FUNCTION dawdle()
            """
        )


def statuses() -> dict[str, int]:
    """Return how many stages are in each status, without those that were never claimed."""
    counted = read("SELECT status, count(*) AS n FROM stages WHERE attempt > 0 GROUP BY status")
    return {each["status"]: each["n"] for each in counted}


def test_no_stage_is_rescued_before_one_lease_length_of_ticks(make_pulse: MakePulse) -> None:
    due: list[UUID] = []
    created, pulse = orphan(), make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS - 1)
    tick(pulse, 2.0)
    assert "stage.rescued" not in types(created.run.id)
    shift_ticks(steady=1)
    with stage_due.connected(due.append):
        tick(pulse, 3.0)
    assert types(created.run.id)[-1] == "stage.rescued"
    assert due == [created.stage_id]


def test_a_gap_in_all_workers_ticks_restarts_the_wait(make_pulse: MakePulse) -> None:
    created, pulse = orphan(), make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=60, last=LONGEST_GAP_SECONDS + 1)
    tick(pulse, 2.0)
    assert "stage.rescued" not in types(created.run.id)
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 3.0)
    assert "stage.rescued" in types(created.run.id)


def test_a_new_worker_rescues_at_once_if_other_workers_have_been_ticking(make_pulse: MakePulse) -> None:
    created = orphan()
    write_heartbeat(WorkerIdentity(uuid4(), "offline", 4), Heartbeat("working", 0))
    shift_ticks(steady=LEASE_SECONDS)
    tick(make_pulse(), 1.0)
    assert "stage.rescued" in types(created.run.id)


def test_a_draining_worker_rescues_no_stage(make_pulse: MakePulse) -> None:
    created, pulse = orphan(), make_pulse()
    tick(pulse, 1.0)
    pulse.status.leave("draining")
    shift_ticks(steady=LEASE_SECONDS)
    tick(pulse, 2.0)
    assert "stage.rescued" not in types(created.run.id)
    assert read("SELECT state FROM worker_heartbeats") == [{"state": "draining"}]


def test_a_slow_rescue_continues_after_the_next_renewal(make_pulse: MakePulse) -> None:
    for _ in range(RESCUE_BATCH + 5):
        orphan()
    pulse = make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS)
    make_slow("queued", 0.006)
    tick(pulse, 2.0)
    assert statuses() == {"queued": RESCUE_BATCH, "running": 5}
    tick(pulse, 2.1)
    assert statuses() == {"queued": RESCUE_BATCH + 5}


def test_stages_out_of_rescues_are_failed_for_at_most_half_a_second_per_tick(make_pulse: MakePulse) -> None:
    for _ in range(4):
        orphan()
    with transaction():
        execute("UPDATE stages SET rescues = %(most)s WHERE status = 'running'", most=MAX_RESCUES)
    pulse = make_pulse()
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS)
    make_slow("failed", 0.3)
    tick(pulse, 2.0)
    assert statuses()["running"] >= 2
    tick(pulse, 2.1, 2.2, 2.3)
    assert statuses() == {"failed": 4}


def test_followers_of_a_rescued_run_are_woken(make_pulse: MakePulse) -> None:
    created, pulse, woken = orphan(), make_pulse(), list[UUID]()
    tick(pulse, 1.0)
    shift_ticks(steady=LEASE_SECONDS)
    with run_changed.connected(woken.append):
        tick(pulse, 2.0)
    assert woken == [created.run.id]
