"""The Redis channels on which changes and progress of a run are published to the clients that follow it."""

from __future__ import annotations

from uuid import UUID

CHANNEL = "vm:run:"


def channel_of(run_id: UUID) -> str:
    """Return the Redis channel on which a run's followers are woken and its progress is published."""
    return f"{CHANNEL}{run_id}"
