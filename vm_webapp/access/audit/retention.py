"""Removes the oldest part of the chain, and leaves the hash that the rest follows."""

from __future__ import annotations

from datetime import timedelta

from vm_webapp.db.pool import row, transaction

BATCH = 1000

_PRUNE = "SELECT prune_audit(%(keep)s, %(batch)s) AS deleted"


def prune_batch(keep: timedelta) -> int:
    """Remove up to ``BATCH`` of the oldest entries, if they are sealed and older than this; return how many.

    It stops at the first that is newer, and removes nothing while another process seals or prunes.

    Args:
        keep: the age up to which entries stay; the database refuses less than 30 days.

    Raises:
        DatabaseUnavailable: nothing was removed.
    """
    with transaction(durable=False):
        found = row(_PRUNE, keep=keep, batch=BATCH)
    return int(found["deleted"]) if found else 0
