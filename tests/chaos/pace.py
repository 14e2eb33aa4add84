"""Measures the throughput of stages, and how long it takes to recover after a failure."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from tests.chaos.ledger import completions_per_second, database_now
from tests.support.waiting import eventually

WARM_UP_SECONDS = 5
WINDOW = timedelta(seconds=10)
SHARE = 0.95


def usual_pace() -> float:
    """Return the usual throughput in stages per second, measured over two windows."""
    time.sleep(WARM_UP_SECONDS)
    since = database_now()
    time.sleep(2 * WINDOW.total_seconds())
    return completions_per_second(since, database_now())


def seconds_until_back(usual: float, since: datetime, *, within: float) -> float:
    """Wait until the throughput of a whole window is 95 % of the usual one; return how many seconds that took.

    The first window does not count: in it, workers write all results that they received during the outage.

    Args:
        usual: the usual throughput in stages per second.
        since: the end of the failure.
        within: the most seconds to wait.
    """

    def is_back() -> bool:
        now = database_now()
        return now - since > 2 * WINDOW and completions_per_second(now - WINDOW, now) >= SHARE * usual

    eventually(is_back, f"the usual throughput of {usual:.1f}/s", seconds=within, every=0.5)
    return (database_now() - since).total_seconds()
