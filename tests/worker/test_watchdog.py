"""The watchdog notices a pulse (the worker's maintenance loop) that hangs."""

from __future__ import annotations

from actors.watchdog import MAX_MISSED_CHECKS, Watchdog
from tests.support.processes import frozen
from tests.support.runs import read
from tests.support.waiting import eventually
from tests.worker.conftest import MakePulse
from tests.worker.ticks import tick


def check(watchdog: Watchdog, times: int) -> None:
    """Make so many checks."""
    for _ in range(times):
        watchdog.check_once()


def test_a_pulse_that_hangs_is_reported_once() -> None:
    reported: list[str] = []
    watchdog = Watchdog(lambda: True, on_hang=lambda: reported.append("hangs"))
    check(watchdog, MAX_MISSED_CHECKS - 1)
    watchdog.note_tick()
    check(watchdog, MAX_MISSED_CHECKS - 1)
    assert reported == []
    check(watchdog, 6)
    assert reported == ["hangs"]


def test_a_worker_that_waits_for_its_schema_is_not_reported() -> None:
    reported: list[str] = []
    watchdog = Watchdog(lambda: False, on_hang=lambda: reported.append("hangs"))
    check(watchdog, MAX_MISSED_CHECKS + 5)
    assert reported == []


def test_a_pulse_replaces_a_connection_whose_server_process_froze(make_pulse: MakePulse) -> None:
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


def test_a_pulse_that_hangs_makes_the_worker_unhealthy(make_pulse: MakePulse) -> None:
    reported: list[str] = []
    pulse = make_pulse(on_unhealthy=lambda: reported.append("unhealthy"))
    tick(pulse, 1.0)
    check(pulse.watchdog, MAX_MISSED_CHECKS)
    assert (pulse.status.unhealthy, reported) == (True, ["unhealthy"])


def test_a_draining_worker_is_not_asked_to_stop_again(make_pulse: MakePulse) -> None:
    reported: list[str] = []
    pulse = make_pulse(on_unhealthy=lambda: reported.append("unhealthy"))
    tick(pulse, 1.0)
    pulse.status.leave("draining")
    check(pulse.watchdog, MAX_MISSED_CHECKS)
    assert reported == []
