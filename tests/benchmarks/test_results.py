"""The file of figures: what was saved is read again, and what cannot be used is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plans import Cost, Growth, Plans, load_plans
from benchmarks.results import Measured, Results, UnusableResults, load

RESULTS = Results({"cores": 2}, {"drain": Measured(10, {"limit": [{"per_second": 5.5}], "ours": [{"per_second": 3}]})})
PLANS = Plans(
    {"cores": 2},
    {
        "POST /runs: writes runs": {10: Cost(0.1, 5, 0), 1000: Cost(0.2, 6, 1)},
        "POST /runs: reads stages": {1000: Cost(0.3, 7, 2)},
        "POST /runs/{id}": {1000: Cost(9, 9, 9)},
    },
    Growth({"runs": 100, "events": 50}, wal_bytes=1000, renewal_wal_bytes=10, commits=4.12, events=11),
)


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    RESULTS.save(tmp_path / "figures.json")
    assert load(tmp_path / "figures.json", ["drain"]) == RESULTS


def test_plans_are_read_as_they_were_saved(tmp_path: Path) -> None:
    PLANS.save(tmp_path / "plans.json")
    assert load_plans(tmp_path / "plans.json") == PLANS


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "null", "{}", '{"measures": []}', '{"measures": {"drain": 1}}']
)
@pytest.mark.parametrize("read", [load, load_plans])
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, read: object, content: str | None) -> None:
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UnusableResults, match=r"^figures.json .*: (measure|explain) anew: uv run .*$"):
        read(file)  # type: ignore[operator]


def test_a_file_without_a_measure_names_it(tmp_path: Path) -> None:
    RESULTS.save(tmp_path / "figures.json")
    with pytest.raises(UnusableResults, match="no figures of calls, post: measure anew"):
        load(tmp_path / "figures.json", ["post", "drain", "calls"])


def test_the_time_of_a_call_is_that_of_all_its_statements_with_the_most_runs() -> None:
    assert PLANS.ms("POST /runs") == pytest.approx(0.5)


def test_a_statement_that_only_some_sizes_have_leaves_the_others_empty() -> None:
    assert "| POST /runs: reads stages |  |  |  | 0.30 | 7 | 2 |" in PLANS.table()
