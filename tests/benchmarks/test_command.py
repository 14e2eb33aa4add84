"""The command line of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import explain, million, refresh
from benchmarks.__main__ import main, parse
from benchmarks.measures import MEASURES
from benchmarks.results import load


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["drian"], "there is no measure drian: there are drain, post"),
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "-1"], "--rounds"),
        (["--count", "many"], "--count"),
        (["--save", "nowhere/figures.json"], "there is no folder nowhere: create it"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)
    assert said in capsys.readouterr().err


def test_a_few_runs_are_not_compared_with_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        explain.main(["--runs", "10000"])
    assert "--runs must be more than 10,000" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--runs", "999"], ["--minutes", "0"], ["--runs", "many"]])
def test_a_history_that_is_none_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        million.main(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_help_names_every_measure_and_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    shown = capsys.readouterr().out
    assert all(f"[{name}]" in shown for name in MEASURES)
    assert "benchmarks refresh" in shown
    assert "benchmarks explain" in shown
    assert "benchmarks million" in shown


def test_refresh_says_what_is_missing_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "matplotlib.axes"):  # the second one may have been imported already
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "benchmarks.plots", raising=False)
    monkeypatch.delattr("benchmarks.plots", raising=False)
    with pytest.raises(
        SystemExit, match=r"^the plots need .*: uv run --group benchmarks python -m benchmarks refresh figures\.json$"
    ):
        refresh.main([str(tmp_path / "figures.json")])


@pytest.mark.only_in_full
@pytest.mark.timeout(600)
def test_every_measure_can_be_made_and_its_figures_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--rounds", "1", "--count", "20", "--save", str(file)])
    main()
    results = load(file, MEASURES)
    shown = capsys.readouterr().out
    for name, what in MEASURES.items():
        assert what.title in shown
        for measured in results.measures[name].contenders.values():
            (values,) = measured
            assert all(values[figure.key] > 0 for figure in what.figures)
