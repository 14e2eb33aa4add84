"""Leases of duties that only one process may do at a time, as rows with a token, by the database's clock.

An advisory lock would not do: it neither survives a transaction pooler nor fences a call to another system.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from peewee import DatabaseError
from uuid_utils.compat import uuid7

from vm_webapp.db.pool import autocommit, execute, jsonb, row
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

HELD = """EXISTS (SELECT 1 FROM duty_leases
                   WHERE name = %(lease)s AND token = %(token)s AND expires_at > clock_timestamp())"""
"""SQL: whether the lease is held under a token, to be a condition of what its holder writes."""

# One that ends later than any lease given now was given before the clock stepped back. To ask for a lease that another
# process has writes nothing: an upsert whose WHERE is false would still lock the row, each time.
_HOLD = """
    INSERT INTO duty_leases AS held (name, token, holder, details, expires_at)
    SELECT %(name)s, %(token)s, %(holder)s, %(details)s, clock_timestamp() + %(seconds)s * interval '1 s'
     WHERE NOT EXISTS (SELECT FROM duty_leases
                        WHERE name = %(name)s AND token <> %(token)s
                          AND expires_at BETWEEN clock_timestamp()
                                             AND clock_timestamp() + %(seconds)s * interval '1 s')
    ON CONFLICT (name) DO UPDATE
       SET token = EXCLUDED.token, holder = EXCLUDED.holder, details = EXCLUDED.details,
           expires_at = EXCLUDED.expires_at
     WHERE held.token = EXCLUDED.token OR held.expires_at <= clock_timestamp()
        OR held.expires_at > clock_timestamp() + %(seconds)s * interval '1 s'
    RETURNING true AS held
"""
_RELEASE = "UPDATE duty_leases SET expires_at = clock_timestamp() WHERE name = %(name)s AND token = %(token)s"


class DutyLease:
    """The lease of one duty, as one process holds it, or tries to.

    Args:
        name: the duty's.
        holder: who this is, for people; by default host and process.
        seconds: how long the lease lasts after each ``hold``.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        holder: str | None = None,
        *,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.token: UUID = uuid7()
        self._holder = holder or f"{socket.gethostname()}:{os.getpid()}"
        self._seconds = seconds
        self._clock = clock
        self._until = 0.0

    @property
    def remaining_seconds(self) -> float:
        """For how long the lease is held for certain: 0 if it is not. It needs no look into the database."""
        return max(0.0, self._until - self._clock())

    def hold(self, details: dict[str, Any] | None = None) -> bool:
        """Take the lease, or extend it; return whether it is held now.

        Args:
            details: what others shall see of this holder.

        Raises:
            DatabaseUnavailable: unknown; ``remaining_seconds`` stays as it was.
        """
        if not self.remaining_seconds:
            # A token of its own for each time that it is taken: what was written under the last one stays fenced off.
            self.token = uuid7()
        asked = self._clock()
        with autocommit():
            held = row(
                _HOLD,
                name=self.name,
                token=self.token,
                holder=self._holder,
                details=jsonb(details or {}),
                seconds=self._seconds,
            )
        # From before the question: the database's answer may have taken long.
        self._until = asked + self._seconds if held else 0.0
        return held is not None

    def release(self) -> None:
        """Give the lease up, so that another process can take it at once; without the database it ends by itself."""
        if self.remaining_seconds:
            self._until = 0.0
            try:
                with autocommit():
                    execute(_RELEASE, name=self.name, token=self.token)
            except (DatabaseUnavailable, DatabaseError) as error:
                log.debug("lease.unreleased", extra={"lease": self.name, "error": shortened(error)})
