"""Failed runs by the reason why they failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vm_webapp.db.pool import autocommit, rows

# Of how many runs a summary looks at: it takes some milliseconds, however many have failed.
MOST_LOOKED_AT = 5_000
MOST_REASONS = 20

_READ = f"""
    SELECT code, count(*)::int AS runs, max(finished_at) AS last, (array_agg(message ORDER BY finished_at DESC))[1]
           AS message, bool_or(retryable) AS retryable
      FROM (SELECT error ->> 'code' AS code, error ->> 'message' AS message, (error ->> 'retryable')::boolean
                   AS retryable, finished_at
              FROM runs WHERE status = 'failed' ORDER BY created_at DESC, id DESC LIMIT {MOST_LOOKED_AT}) newest
     GROUP BY code ORDER BY last DESC LIMIT {MOST_REASONS}
"""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed runs with one reason.

    Attributes:
        code: the reason, as errors name it.
        runs: how many they are.
        last: when the last of them failed.
        message: what the last of them says.
        retryable: whether a retry of one of them may help without anything else being changed.
    """

    code: str
    runs: int
    last: datetime
    message: str
    retryable: bool


def group_failures() -> tuple[FailureGroup, ...]:
    """Return the newest 5,000 failed runs by their reason, the reason that was met last first."""
    with autocommit():
        found = rows(_READ)
    return tuple(FailureGroup(**each) for each in found)
