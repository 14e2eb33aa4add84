"""The PostgreSQL server: its clock and its connections."""

from __future__ import annotations

from datetime import UTC, datetime

from vm_webapp.db.pool import row
from vm_webapp.ops.doctor.check import Check, fail, ok, warn

CLOCK_SECONDS = 2.0
FEW_CONNECTIONS = 14  # one more worker and one more API process


def check_clock() -> Check:
    """How far this machine's clock is from the database's, by which leases are counted."""
    before = datetime.now(UTC)
    found = row("SELECT clock_timestamp() AS now")
    after = datetime.now(UTC)
    assert found is not None
    difference = (found["now"] - (before + (after - before) / 2)).total_seconds()
    detail = f"this machine is {abs(difference):.1f} s {'behind' if difference > 0 else 'ahead of'} the database"
    if abs(difference) > CLOCK_SECONDS:
        return warn("clock", detail, "set the clock of this machine: timedatectl set-ntp true")
    return ok("clock", detail)


def check_connections() -> Check:
    """How many more connections the server takes from us."""
    found = row(
        """
        SELECT count(*) AS used,
               current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most
          FROM pg_stat_activity WHERE backend_type = 'client backend'
        """
    )
    assert found is not None
    left = found["most"] - found["used"]
    detail = f"{found['used']} of {found['most']} in use"
    if left <= 0:
        return fail("connections", detail, "scale the services down, or take a larger database")
    if left < FEW_CONNECTIONS:
        return warn("connections", f"{detail}: no room for another worker", "take a larger database before scaling up")
    return ok("connections", detail)
