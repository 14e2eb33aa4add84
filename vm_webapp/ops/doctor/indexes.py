"""Checks for invalid indexes, which a failed ``CREATE INDEX CONCURRENTLY`` leaves behind."""

from __future__ import annotations

from vm_webapp.db.migrate import read_invalid_indexes
from vm_webapp.db.pool import rows
from vm_webapp.ops.doctor.check import Check, ok, warn


def check_indexes() -> Check:
    """Check whether every index is valid; name the statement that drops the ones that are not."""
    found = read_invalid_indexes(rows)
    if not found:
        return ok("indexes", "all are valid")
    names = ", ".join(f"{each.full_name} on {each.table_name}" for each in found)
    commands = "; ".join(each.drop for each in found)
    return warn("indexes", f"no query uses these, and every write maintains them: {names}", f"{commands}; migrate up")
