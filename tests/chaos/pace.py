"""How fast stages are completed, and how long it takes after a failure until they are so again."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from tests.chaos.ledger import completions_per_second, database_now
from tests.support.waiting import eventually

WARM_UP_SECONDS = 5
WINDOW = timedelta(seconds=10)
SHARE = 0.95


def usual_pace() -> float:
    """Return how many stages a second are completed while nothing is wrong, measured over two windows."""
    time.sleep(WARM_UP_SECONDS)
    since = database_now()
    time.sleep(2 * WINDOW.total_seconds())
    return completions_per_second(since, database_now())


def seconds_until_back(usual: float, since: datetime, *, within: float) -> float:
    """Wait until the pace of a whole window is 95 % of the usual one; return how long that took.

    The first window does not count: what was answered during an outage is written down in it, all at once.

    Args:
        usual: stages a second.
        since: the end of the failure.
        within: the most seconds to wait.
    """

    def is_back() -> bool:
        now = database_now()
        return now - since > 2 * WINDOW and completions_per_second(now - WINDOW, now) >= SHARE * usual

    eventually(is_back, f"the old pace of {usual:.1f}/s", seconds=within, every=0.5)
    return (database_now() - since).total_seconds()
