"""Makes a pulse (the maintenance loop) tick, and prepares what it finds in the database."""

from __future__ import annotations

from uuid import uuid4

from actors.pulse import Pulse
from tests.support.runs import CreatedRun, create
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant


def orphan() -> CreatedRun:
    """Return a run whose stage is running under an expired lease of a dead worker."""
    created = create()
    lifecycle.claim_stage(created.stage_id, Claimant(uuid4(), "offline"), token=uuid4())
    with transaction():
        execute("UPDATE stages SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'")
    return created


def tick(pulse: Pulse, *times: float) -> None:
    """Tick at each of these monotonic times."""
    for now in times:
        pulse.tick_once(now)


def shift_ticks(*, steady: float = 0, last: float = 0) -> None:
    """Move the start of the steady ticks, or the last tick, so many seconds into the past."""
    with transaction():
        execute(
            "UPDATE worker_heartbeats SET steady_since = steady_since - %(steady)s * interval '1 s',"
            " last_tick_at = last_tick_at - %(last)s * interval '1 s'",
            steady=steady,
            last=last,
        )
