"""Workers that exist as heartbeats only."""

from __future__ import annotations

from uuid import uuid4

from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat

SLOTS = 4


def let_work(*, provider: str = "kimi", cap: int | None = None, in_flight: int = 0) -> None:
    """Write the heartbeat of a worker with four slots."""
    write_heartbeat(WorkerIdentity(uuid4(), provider, SLOTS, cap), Heartbeat("working", in_flight))
