"""How many runs a key creates on a day, in UTC by the database's clock: counted exactly, in the run's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import row
from vm_webapp.db.prepared import Prepared
from vm_webapp.errors import VMError

_COUNT = """
    INSERT INTO runs_of_day AS counted (key_id, day, runs)
    SELECT %(key_id)s::uuid, (statement_timestamp() AT TIME ZONE 'UTC')::date, 1 {within}
    ON CONFLICT (key_id) DO UPDATE
       SET day = greatest(counted.day, excluded.day),
           runs = CASE WHEN excluded.day > counted.day THEN 1 ELSE counted.runs + 1 END
     WHERE excluded.day > counted.day OR counted.runs < %(runs_per_day)s::int
    RETURNING runs
"""


def count_run(within: str = "") -> str:
    """Return the statement that counts a run; it returns no row if the key has created as many as it may.

    Args:
        within: a FROM clause of at most one row, without which nothing is counted.
    """
    return _COUNT.format(within=within)


_COUNT_RUN = Prepared(count_run())
_TOMORROW = """
    SELECT ceil(extract(epoch FROM date_trunc('day', now AT TIME ZONE 'UTC') + interval '1 day'
                                   - now AT TIME ZONE 'UTC'))::int AS seconds
      FROM (SELECT clock_timestamp() AS now) clock
"""


class QuotaExceeded(VMError):
    """The key has created as many runs as it may on this day."""

    code = "quota_exceeded"
    http_status = 429

    def __init__(self, runs_per_day: int, seconds: int) -> None:
        super().__init__(f"this key has created the {runs_per_day} runs that it may on a day; the day ends at 0:00 UTC")
        self.retry_after_seconds = max(1, seconds)


@dataclass(frozen=True, slots=True)
class RunQuota:
    """What a key may create.

    Attributes:
        key_id: the key.
        runs_per_day: how many runs on a day in UTC.
    """

    key_id: UUID
    runs_per_day: int

    @classmethod
    def of(cls, actor: Actor, runs_per_day: int | None) -> RunQuota | None:
        """Return the quota of an actor; None for an actor without a key, and where there is no limit."""
        if actor.key_id is None or runs_per_day is None:
            return None
        return cls(actor.key_id, runs_per_day)

    def count_run(self) -> None:
        """Count a run in the current transaction.

        Raises:
            QuotaExceeded: the key may create no more on this day.
        """
        if row(_COUNT_RUN, key_id=self.key_id, runs_per_day=self.runs_per_day) is None:
            raise self.exceeded()

    def exceeded(self) -> QuotaExceeded:
        """Return the error that says so, with the time until the next day; in a transaction, or with a connection."""
        tomorrow = row(_TOMORROW)
        assert tomorrow is not None
        return QuotaExceeded(self.runs_per_day, tomorrow["seconds"])
