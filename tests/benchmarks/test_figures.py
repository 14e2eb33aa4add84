"""Tables of figures: medians, and what they are compared with."""

from __future__ import annotations

from benchmarks.drain import Servers
from benchmarks.figures import Figure, Measure, Rounds, Values, medians, table

RATE = Figure("per_second", "median", 0, "share", rising=True)
SECONDS = Figure("seconds", "wall time, s", 2, "share")
WAIT = Figure("p50_ms", "p50, ms", 1, "times")
MEMORY = Figure("memory_mb", "memory, MB", 0, "")


def rounds(key: str, limit: list[float], ours: list[float]) -> Rounds:
    return {"limit": [{key: value} for value in limit], "ours": [{key: value} for value in ours]}


def contender(servers: Servers, count: int) -> Values:
    raise NotImplementedError


def test_a_rate_is_compared_within_each_round() -> None:
    # The machine was twice as fast in the last two rounds; ours was always at half of the limit.
    found = medians(RATE, rounds("per_second", [100, 200, 200], [50, 100, 100]))
    assert found == {"limit": (200, 1.0), "ours": (100, 0.5)}


def test_less_time_than_the_limit_is_a_larger_share() -> None:
    assert medians(SECONDS, rounds("seconds", [4], [5]))["ours"] == (5, 0.8)


def test_a_wait_is_a_multiple_of_the_limits() -> None:
    assert medians(WAIT, rounds("p50_ms", [2], [5]))["ours"] == (5, 2.5)


def test_a_table_has_a_column_for_each_figure_and_each_comparison() -> None:
    measure = Measure("What", (SECONDS, MEMORY), {"limit": contender, "ours": contender}, 1)
    measured: Rounds = {
        "limit": [{"seconds": 4.0, "memory_mb": 1234}],
        "ours": [{"seconds": 5.0, "memory_mb": 99.6}],
    }
    assert table(measure, measured).splitlines() == [
        "| What | wall time, s | of the limit | memory, MB |",
        "| --- | --- | --- | --- |",
        "| limit | 4.00 | 1.00 | 1,234 |",
        "| ours | 5.00 | 0.80 | 100 |",
    ]
