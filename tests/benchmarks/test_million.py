"""The long history is varied as it says, and its pages and its load are shown as they were measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.long_history import BRANDS, add_long_history
from benchmarks.million import Borne, load_million
from benchmarks.results import UnusableResults
from benchmarks.steady_load import TABLES, Minute
from benchmarks.workspace import pages
from tests.chaos.harness import own_postgres
from tests.support.runs import read

RUNS = 1000


def test_a_long_history_has_runs_of_every_kind() -> None:
    with own_postgres() as postgres:
        history = add_long_history(postgres.url, RUNS)
        statuses = {row["status"]: row["n"] for row in read("SELECT status, count(*) AS n FROM runs GROUP BY status")}
        (found,) = read(
            """
            SELECT count(*) FILTER (WHERE brand_id IS NULL) AS unbranded, count(DISTINCT brand_id) AS brands,
                   count(*) FILTER (WHERE (brand_id IS NULL) <> (brand_digest IS NULL)) AS torn,
                   count(*) FILTER (WHERE request LIKE '%% ancient %%') AS ancient,
                   bool_or(request LIKE '%% seldom %%') AS seldom
              FROM runs
            """
        )
        sizes = {
            row["brand_id"]: row["n"]
            for row in read("SELECT brand_id, count(*) AS n FROM runs WHERE brand_id IS NOT NULL GROUP BY brand_id")
        }
        (failed,) = read("SELECT status FROM runs WHERE id = %(id)s", id=history.failed_run)
    assert statuses.keys() == {"completed", "failed", "canceled"}
    assert (statuses["failed"], statuses["canceled"]) == (20, 10)
    assert (found["brands"], found["torn"], found["seldom"]) == (BRANDS, 0, True)
    assert (found["unbranded"], found["ancient"]) == (301, 299)  # the run that was copied has no brand
    assert sizes[history.large_brand] > 10 * sizes[history.small_brand]
    assert failed["status"] == "failed"
    assert len(set(pages(history))) == len(pages(history))


def minute(create_ms: float) -> Minute:
    """Return a minute in which a run was created as fast as this."""
    pair = (create_ms, 2 * create_ms)
    numbers = dict.fromkeys(TABLES, 1.0)
    return Minute(pair, pair, pair, pair, numbers, numbers, dict.fromkeys(TABLES, 1))


def test_the_first_minute_the_middle_one_and_the_last_are_compared() -> None:
    borne = Borne({"runs": 1000}, {"/ui/runs": 12.4}, [minute(number) for number in range(1, 16)])
    table = borne.load_table().splitlines()
    assert table[0] == "| 20 runs a second | minute 1 | minute 8 | minute 15 |"
    assert table[2] == "| POST /runs, p50 / p95 ms | 1.0 / 2.0 | 8.0 / 16.0 | 15.0 / 30.0 |"
    assert borne.pages_table().splitlines()[-1] == "| `/ui/runs` | 12 |"


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "million.json"
    with pytest.raises(UnusableResults, match="cannot be read"):
        load_million(file)
    borne = Borne({"runs": 1000}, {"/ui/runs": 12.4}, [minute(1), minute(2)])
    borne.save(file)
    assert load_million(file).load_table() == borne.load_table()
    file.write_text("{}")
    with pytest.raises(UnusableResults, match="measure anew: uv run python -m benchmarks million"):
        load_million(file)
