"""The file of figures: what was saved is read again, and what cannot be used is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results import Measured, Results, UnusableResults, load

RESULTS = Results({"cores": 2}, {"drain": Measured(10, {"limit": [{"per_second": 5.5}], "ours": [{"per_second": 3}]})})


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    RESULTS.save(tmp_path / "figures.json")
    assert load(tmp_path / "figures.json", ["drain"]) == RESULTS


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "null", "{}", '{"measures": []}', '{"measures": {"drain": 1}}']
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UnusableResults, match=r"^figures.json .*: measure anew: uv run .*$"):
        load(file)


def test_a_file_without_a_measure_names_it(tmp_path: Path) -> None:
    RESULTS.save(tmp_path / "figures.json")
    with pytest.raises(UnusableResults, match="no figures of calls, post: measure anew"):
        load(tmp_path / "figures.json", ["post", "drain", "calls"])
