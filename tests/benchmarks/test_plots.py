"""A plot is drawn from saved figures; only with the group of packages that draw (uv run --group benchmarks pytest)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.digest import digest
from benchmarks.figures import Figure, Measure
from benchmarks.results import Measured
from tests.benchmarks.test_figures import contender
from tests.benchmarks.test_pages import text_of

image = pytest.importorskip("matplotlib.image", reason="uv run --group benchmarks")
plots = pytest.importorskip("benchmarks.plots")


def test_a_plot_names_its_figures_and_is_opaque(tmp_path: Path) -> None:
    figure = Figure("per_second", "median", 0, "share", rising=True)
    measure = Measure("Runs", (figure,), {"limit": contender, "VM Webapp": contender}, 1)
    measured = Measured(1, {"limit": [{"per_second": 9.0}], "VM Webapp": [{"per_second": 5.0}]})
    plots.draw(measure, measured, tmp_path / "plot.png")
    assert text_of(tmp_path / "plot.png")["Figures"] == digest(measured)
    picture = image.imread(tmp_path / "plot.png")
    assert tuple(picture[1, 1]) == (1, 1, 1, 1), "a dark page shows it on white"
