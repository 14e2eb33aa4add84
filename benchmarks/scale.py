"""What so many runs a second need, computed from what one run was measured to need."""

from __future__ import annotations

import math

from benchmarks.figures import OURS, medians
from benchmarks.hot_statements import CLAIM, CLAIMED, CREATE, FINISH, HELD, RENEW
from benchmarks.limit import STAGES
from benchmarks.measures import PER_SECOND
from benchmarks.plans import Plans
from benchmarks.results import Results

RATES = (100, 1_000, 10_000)  # runs per second
CALL_SECONDS = 30  # that a model takes
THREADS = 256  # of a worker
CONNECTIONS_OF_API, CONNECTIONS_OF_WORKER = 8, 6
DAY = 86_400


def scale_table(results: Results, plans: Plans) -> str:
    """Return a Markdown table: what PostgreSQL and the processes have to do at each rate."""
    rows = [needs(results, plans, rate) for rate in RATES]
    lines = [
        ["Runs per second", *(f"{rate:,}" for rate in RATES)],
        ["---"] * (1 + len(RATES)),
        *([name, *(row[name] for row in rows)] for name in rows[0]),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def needs(results: Results, plans: Plans, rate: int) -> dict[str, str]:
    """Return what so many runs per second need, by name."""
    growth = plans.growth
    renewals = STAGES * CALL_SECONDS  # of a run: each second, while a call is in flight
    database_ms = (
        plans.ms(CREATE) + plans.ms(CLAIM) / CLAIMED + STAGES * plans.ms(FINISH) + renewals * plans.ms(RENEW) / HELD
    )
    apis = math.ceil(rate / _ours(results, "post"))
    calls = rate * STAGES * CALL_SECONDS
    workers = max(math.ceil(rate / _ours(results, "drain")), math.ceil(calls / THREADS))
    connections = apis * CONNECTIONS_OF_API + workers * CONNECTIONS_OF_WORKER
    disk_ms = float(results.conditions["fdatasync_ms"])
    return {
        "commits per second": f"{rate * growth.commits:,.0f}",
        f"commits that must share a write of {disk_ms:g} ms to the disk": (
            f"{max(1, math.ceil(rate * growth.commits * disk_ms / 1000)):,}"
        ),
        "write-ahead log, MB per second": f"{rate * growth.wal_bytes / 1e6:,.1f}",
        "the same for renewals of leases": f"{rate * renewals * growth.renewal_wal_bytes / 1e6:,.1f}",
        "growth on the disk, GB per day": f"{rate * sum(growth.disk_bytes.values()) * DAY / 1e9:,.0f}",
        "events per second": f"{rate * growth.events:,.0f}",
        "cores of PostgreSQL for these statements": f"{rate * database_ms / 1000:,.1f}",
        "rows of leases renewed per second": f"{rate * renewals:,}",
        "API processes": f"{apis:,}",
        f"calls in flight, if each takes {CALL_SECONDS} s": f"{calls:,}",
        f"workers of {THREADS} threads": f"{workers:,}",
        "connections": f"{connections:,}",
    }


def _ours(results: Results, name: str) -> float:
    """Return the best rate of the product in a measure."""
    found = medians(PER_SECOND, results.measures[name].contenders)
    return max(value for contender, (value, _) in found.items() if contender.startswith(OURS))
