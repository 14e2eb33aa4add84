"""The pauses that there are: of the queue, by an operator; of a provider, by its troubles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vm_webapp.db.pool import rows


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of the queue or of a provider.

    Attributes:
        since: when it began.
        until: when it ends by itself; None where a person must end it.
        by: who paused the queue.
        code: stable identifier of a provider's trouble.
        reason: why, in words; None where nobody said so.
    """

    since: datetime
    until: datetime | None = None
    by: str | None = None
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Pauses:
    """Every pause there is: the queue's, and those of providers by name."""

    queue: Pause | None
    providers: dict[str, Pause]


def read_pauses() -> Pauses:
    """Return every pause, inside the current transaction. What it means for a claim is said by ``admission``."""
    found = rows(
        """
        SELECT name AS provider, paused_at, paused_until, NULL AS paused_by,
               reason ->> 'code' AS code, reason ->> 'message' AS reason
          FROM providers WHERE paused_at IS NOT NULL
        UNION ALL
        SELECT NULL, paused_at, NULL, paused_by, NULL, reason
          FROM queues WHERE name = 'stages' AND paused_at IS NOT NULL
         ORDER BY provider
        """
    )
    pauses = {
        each["provider"]: Pause(
            each["paused_at"], each["paused_until"], each["paused_by"], each["code"], each["reason"]
        )
        for each in found
    }
    return Pauses(pauses.pop(None, None), pauses)
