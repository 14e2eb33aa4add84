"""Names the sessions whose locks hold the program up, and the statement that ends each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.ops.locks import Lock

NOT_CHECKED = "cannot be checked"


def judge_locks(found: Sequence[Lock]) -> Check:
    """Judge the locks: one that stops work, or that workers wait for, is a failure."""
    if not found:
        return ok("locks", "no session holds this program up")
    # One line for each session and not for each lock: ending the session ends them all.
    sessions = {lock.holder.pid: lock.holder for lock in found}
    details = []
    for pid, holder in sessions.items():
        held = [lock for lock in found if lock.holder.pid == pid]
        what = ", ".join(f"{lock.what} ({lock.mode})" for lock in held)
        waiting = " and ".join(sorted({lock.hindered for lock in held if lock.hindered}))
        holds_up = "work" if any(lock.stops_work for lock in held) else waiting or "work"
        details.append(f"{what} holds up {holds_up}: {holder.description}")
    judge = fail if any(lock.stops_work or lock.holds_up_workers for lock in found) else warn
    return judge("locks", "; ".join(details), "; ".join(holder.todo for holder in sessions.values()))


def point_to_locks(check: Check) -> Check:
    """Return a check that a lock kept from being made with a pointer to the check that names the lock."""
    if check.detail.startswith(NOT_CHECKED):
        return replace(check, next="end the session that the check of locks names")
    return check
