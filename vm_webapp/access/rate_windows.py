"""Counters in PostgreSQL that limit how often something happens within a minute, over all processes together.

A window begins with the first count after the one before has ended, by the database's clock. Two counters that are full
at the end of one window and at the beginning of the next let twice the limit through within a minute across the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from peewee import ProgrammingError

from vm_webapp.db.compiled import HOUR, NOW, compiled, delete_from
from vm_webapp.db.models import RateWindow
from vm_webapp.db.pool import Row, autocommit, execute, refusal, row, transaction
from vm_webapp.db.prepared import Prepared

WINDOW_SECONDS = 60

_WINDOW = f"interval '{WINDOW_SECONDS} seconds'"

# Of two statements at the same time one waits for the other's row lock, with a time from before the wait. That time is
# a little older than ``began_at`` then, which must not begin yet another window: hence both bounds.
_IN_WINDOW = f"excluded.began_at > w.began_at - {_WINDOW} AND excluded.began_at < w.began_at + {_WINDOW}"
_NOW = "coalesce(%(at)s::timestamptz, clock_timestamp())"
_ADD = f"""
    ON CONFLICT (counted) DO UPDATE
       SET began_at = CASE WHEN {_IN_WINDOW} THEN w.began_at ELSE excluded.began_at END,
           taken = CASE WHEN {_IN_WINDOW} THEN w.taken ELSE 0 END + excluded.taken
    RETURNING w.began_at, w.taken, extract(epoch FROM w.began_at + {_WINDOW} - {_NOW})::float8 AS seconds_left
"""
_TAKE = Prepared(f"""
    INSERT INTO rate_windows AS w (counted, began_at, taken)
    VALUES (%(counted)s, {_NOW}, %(wanted)s::bigint) {_ADD}
""")
# Once all of them together are over their limit, no row is added for another address: their number is bounded. An
# address that is over its own limit does not count for the others.
_ATTEMPT = Prepared(f"""
    WITH everybody AS (
        SELECT taken, began_at FROM rate_windows WHERE counted = %(all_of)s
           AND began_at > {_NOW} - {_WINDOW} AND began_at < {_NOW} + {_WINDOW}
    ), own AS (
        INSERT INTO rate_windows AS w (counted, began_at, taken)
        SELECT %(counted)s, {_NOW}, 1 WHERE coalesce((SELECT taken FROM everybody), 0) < %(limit_of_all)s {_ADD}
    ), together AS (
        INSERT INTO rate_windows AS w (counted, began_at, taken)
        SELECT %(all_of)s, {_NOW}, 1 FROM own WHERE own.taken <= %(limit)s::bigint {_ADD}
    )
    SELECT coalesce(own.taken <= %(limit)s AND together.taken <= %(limit_of_all)s, false) AS admitted,
           coalesce(CASE WHEN own.taken > %(limit)s THEN own.seconds_left ELSE together.seconds_left END,
                    (SELECT extract(epoch FROM began_at + {_WINDOW} - {_NOW}) FROM everybody),
                    0)::float8 AS seconds_left
      FROM (SELECT) one LEFT JOIN own ON true LEFT JOIN together ON true
""")
_PURGE = compiled(
    delete_from(RateWindow).where(~RateWindow.began_at.between(NOW - HOUR, NOW + HOUR))  # after a step of the clock
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a counter gave.

    Attributes:
        granted: how much of what was wanted is within the limit.
        left: how much the others may still take.
        began_at: when the window began, which tells it from others.
        seconds_left: how long it still lasts.
    """

    granted: int
    left: int
    began_at: datetime
    seconds_left: float


def take(counted: str, wanted: int, *, limit: int, at: datetime | None = None) -> Taken:
    """Take a portion of what one counter allows within its current window, in one round trip.

    Args:
        counted: whose counter it is.
        wanted: how much to take; what is over the limit is counted as well, but not granted.
        limit: how much may be taken within a window.
        at: the time, by default that of the database.

    Raises:
        DatabaseUnavailable: nothing is known about what was taken.
        DatabaseRefused: the database is not migrated yet.
    """
    found = _count(_TAKE, counted=counted, wanted=wanted, at=at)
    before = int(found["taken"]) - wanted
    granted = min(wanted, max(0, limit - before))
    return Taken(granted, max(0, limit - before - wanted), found["began_at"], found["seconds_left"])


def seconds_until_admitted(
    counted: str, *, limit: int, all_of: str, limit_of_all: int, at: datetime | None = None
) -> float | None:
    """Count one attempt for its own counter and for that of all attempts, exactly, in one round trip.

    Args:
        counted: whose attempt it is.
        limit: how many attempts of its own counter are admitted within a window.
        all_of: the counter of everybody's attempts, those apart that are over the limit of their own counter.
        limit_of_all: how many of these are admitted within a window.
        at: the time, by default that of the database.

    Returns:
        None if the attempt is admitted, else in how many seconds the window ends.

    Raises:
        DatabaseUnavailable: nothing is known about what was counted.
        DatabaseRefused: the database is not migrated yet.
    """
    values = {"counted": counted, "limit": limit, "all_of": all_of, "limit_of_all": limit_of_all}
    found = _count(_ATTEMPT, **values, at=at)
    return None if found["admitted"] else float(found["seconds_left"])


def purge_old_windows() -> int:
    """Delete the counters that nobody has used for an hour; return how many."""
    with transaction(durable=False):
        return execute(_PURGE)


def _count(statement: Prepared, **values: Any) -> Row:
    try:
        with autocommit():
            found = row(statement, **values)
    except ProgrammingError as error:
        raise refusal(error) from error
    assert found is not None
    return found
