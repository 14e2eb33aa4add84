"""The keys and channels in Redis. They carry a database's fingerprint, because databases may share a Redis.

Presence alone does not: it shows which databases the workers of a Redis use.

A user whose rights are for the keys ``vm``, ``vm:*`` and the channels ``vm:run:*`` may use them all.
"""

from __future__ import annotations

from uuid import UUID

PREFIX = "vm"
CHANNEL = f"{PREFIX}:run:"


def namespace_of(fingerprint: str) -> str:
    """Return the prefix of a database's keys, which is also the namespace of Dramatiq messages for its workers."""
    return f"{PREFIX}:{fingerprint}"


def hints_of(fingerprint: str) -> str:
    """Return the list of hints for the workers of a database."""
    return f"{namespace_of(fingerprint)}:hints"


def followers_of(fingerprint: str, run_id: UUID) -> str:
    """Return the set to which each process that begins to follow a run adds a word of its own."""
    return f"{namespace_of(fingerprint)}:followers:{run_id}"


def earlier_channel_of(run_id: UUID) -> str:
    """Return the channel of a run that workers of the build before publish on."""
    return f"{CHANNEL}{run_id}"


def channel_of(fingerprint: str, run_id: UUID) -> str:
    """Return the channel on which a run's followers are woken and its progress is published."""
    return f"{CHANNEL}{fingerprint}:{run_id}"
