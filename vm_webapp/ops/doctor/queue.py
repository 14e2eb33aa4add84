"""Checks what holds stages back: a paused queue, too few workers, a paused provider."""

from __future__ import annotations

from vm_webapp.db.pool import rows
from vm_webapp.ops.doctor.check import Check, fail, ok, warn
from vm_webapp.ops.queue_control import read_queue
from vm_webapp.runs.pauses import read_pauses
from vm_webapp.text import plural, plural_with_verb

LATE_SECONDS = 15  # idle workers poll far more often, so a stage that waits longer waits for a slot or for a worker
STUCK_SECONDS = 300


def check_queue() -> Check:
    """Check whether an operator has paused the queue."""
    status = read_queue()
    if not status.paused:
        return ok("queue", f"open; {status.queued} queued, {status.running} running")
    reason = f": {status.reason}" if status.reason else ""
    return warn("queue", f"paused by {status.paused_by}{reason}", "python -m vm_webapp queue resume")


def check_oldest_due() -> Check:
    """Check for how long the oldest due stage has been due."""
    status = read_queue()
    if not status.due:
        return ok("oldest due", "nothing is due")
    detail = f"{plural_with_verb(status.due, 'stage')} due, the oldest for {status.oldest_due_seconds:.0f} s"
    if status.oldest_due_seconds < LATE_SECONDS:
        return ok("oldest due", detail)
    if status.in_flight >= status.slots > 0:
        return warn("oldest due", f"{detail}; every slot is in use", f"run {plural(status.desired_workers, 'worker')}")
    # A paused queue is meant to wait, for however long.
    judge = fail if status.oldest_due_seconds >= STUCK_SECONDS and not status.paused else warn
    return judge("oldest due", detail, "python -m vm_webapp queue status")


def check_time_zones() -> Check:
    """Check whether PostgreSQL knows the time zones of all brands."""
    found = rows("SELECT name, time_zone FROM brands WHERE zone_or_utc(time_zone) <> time_zone ORDER BY name LIMIT 1")
    if not found:
        return ok("time zones", "known to PostgreSQL")
    return warn(
        "time zones",
        f"PostgreSQL does not know {found[0]['time_zone']}, the zone of the brand {found[0]['name']}, whose days begin"
        " at midnight in UTC meanwhile",
        "give the brand another time_zone, or install the server's tzdata",
    )


def check_provider() -> Check:
    """Check whether a model provider is paused."""
    paused = read_pauses().providers
    if not paused:
        return ok("provider", "none is paused")
    name, pause = next(iter(paused.items()))
    message = "no reason is known" if pause.reason is None else pause.reason
    if pause.until is None:
        return fail(
            "provider",
            f"{name} is paused until an operator resumes it: {message}",
            f"fix that, then python -m vm_webapp queue resume-provider {name}",
        )
    return warn("provider", f"{name} is paused and tried again by itself: {message}", "wait a minute")
