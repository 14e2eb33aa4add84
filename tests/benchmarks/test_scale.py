"""What so many runs a second need follows from the saved figures."""

from __future__ import annotations

from benchmarks.hot_statements import CLAIM, CLAIMED, CREATE, FINISH, HELD, RENEW
from benchmarks.plans import Cost, Growth, Plans
from benchmarks.results import Measured, Results
from benchmarks.scale import needs, scale_table


def cost(ms: float) -> dict[int, Cost]:
    return {10: Cost(99.0, 1, 0), 1000: Cost(ms, 1, 0)}


PLANS = Plans(
    {},
    {f"{CREATE}: writes runs": cost(0.5), CLAIM: cost(CLAIMED), FINISH: cost(1.0), RENEW: cost(HELD * 0.01)},
    Growth({"runs": 4_000, "events": 6_000}, wal_bytes=20_000, renewal_wal_bytes=500, commits=4, events=12),
)
RESULTS = Results(
    {"fdatasync_ms": 2.0},
    {
        "post": Measured(1, {"bare (limit)": [{"per_second": 999}], "VM Webapp": [{"per_second": 450}]}),
        "drain": Measured(
            1,
            {
                "by hand (limit)": [{"per_second": 999}],
                "VM Webapp, 8 threads": [{"per_second": 100}],
                "VM Webapp, 32 threads": [{"per_second": 200}],
            },
        ),
    },
)


def test_the_needs_of_a_thousand_runs_a_second() -> None:
    # 3 stages of 30 s: 90,000 calls in flight, each renewed once a second; 352 workers have 256 threads for each.
    assert list(needs(RESULTS, PLANS, 1000).values()) == [
        "4,000",  # commits
        "8",  # in 2 ms
        "20.0",  # MB of log
        "45.0",  # MB of log for renewals
        "864",  # GB a day
        "12,000",  # events
        "5.4",  # cores: 0.5 + 1 + 3 × 1 + 90 × 0.01 ms
        "90,000",  # renewals
        "3",  # API processes
        "90,000",  # calls
        "352",  # workers
        "2,136",  # connections
    ]


def test_a_few_runs_need_one_of_each() -> None:
    found = needs(RESULTS, PLANS, 1)
    assert (found["API processes"], found["workers of 256 threads"]) == ("1", "1")


def test_the_table_has_a_column_for_each_rate() -> None:
    heads, *_ = scale_table(RESULTS, PLANS).splitlines()
    assert heads == "| Runs per second | 100 | 1,000 | 10,000 |"
