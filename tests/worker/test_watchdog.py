"""A pulse that hangs is noticed by its own process."""

from __future__ import annotations

from actors.watchdog import MAX_MISSED_CHECKS, Watchdog
from tests.support.processes import frozen
from tests.support.runs import read
from tests.support.waiting import eventually
from tests.worker.conftest import MakePulse
from tests.worker.ticks import tick


def look(watchdog: Watchdog, times: int) -> None:
    """Look again and again."""
    for _ in range(times):
        watchdog.check_once()


def test_a_pulse_that_hangs_for_good_is_told_once() -> None:
    told: list[str] = []
    watchdog = Watchdog(lambda: True, on_hang=lambda: told.append("hangs"))
    look(watchdog, MAX_MISSED_CHECKS - 1)
    watchdog.note_tick()
    look(watchdog, MAX_MISSED_CHECKS - 1)
    assert told == []
    look(watchdog, 6)
    assert told == ["hangs"]


def test_a_worker_that_waits_for_its_schema_is_not_called_late() -> None:
    told: list[str] = []
    watchdog = Watchdog(lambda: False, on_hang=lambda: told.append("hangs"))
    look(watchdog, MAX_MISSED_CHECKS + 5)
    assert told == []


def test_a_server_process_that_freezes_costs_a_pulse_its_connection_and_no_more(make_pulse: MakePulse) -> None:
    last_tick = "SELECT max(last_tick_at) AS at FROM worker_heartbeats"
    idle = """
        SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'vm-webapp pulse%%' AND state = 'idle'
    """
    pulse = make_pulse()
    pulse.start()
    try:
        eventually(lambda: read(last_tick)[0]["at"], "a heartbeat")
        (found,) = eventually(lambda: read(idle), "the pulse's connection")
        with frozen([found["pid"]]):
            before = read(last_tick)[0]["at"]
            eventually(lambda: read(last_tick)[0]["at"] > before, "a heartbeat over another connection", seconds=15)
    finally:
        pulse.stop()
    assert not pulse.status.unhealthy


def test_a_pulse_that_nothing_brings_back_makes_the_worker_unhealthy(make_pulse: MakePulse) -> None:
    told: list[str] = []
    pulse = make_pulse(on_unhealthy=lambda: told.append("unhealthy"))
    tick(pulse, 1.0)
    look(pulse.watchdog, MAX_MISSED_CHECKS)
    assert (pulse.status.unhealthy, told) == (True, ["unhealthy"])


def test_a_draining_worker_is_not_told_to_stop_a_second_time(make_pulse: MakePulse) -> None:
    told: list[str] = []
    pulse = make_pulse(on_unhealthy=lambda: told.append("unhealthy"))
    tick(pulse, 1.0)
    pulse.status.leave("draining")
    look(pulse.watchdog, MAX_MISSED_CHECKS)
    assert told == []
