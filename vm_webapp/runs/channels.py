"""Where in Redis those who follow a run are told of it."""

from __future__ import annotations

from uuid import UUID

CHANNEL = "vm:run:"


def channel_of(run_id: UUID) -> str:
    """Return the Redis channel on which a run's followers are woken and told of its progress."""
    return f"{CHANNEL}{run_id}"
