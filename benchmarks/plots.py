"""A bar chart for each measure: the medians, and a dot for each round."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.digest import digest
from benchmarks.figures import OURS as PRODUCT
from benchmarks.figures import Figure, Measure, medians
from benchmarks.measures import MEASURES
from benchmarks.results import Measured, Results

# White behind everything, so that a dark page shows the same picture as a light one.
PAPER, INK, LIMIT, OURS, OTHER, DOT = "#ffffff", "#1f2328", "#57606a", "#0969da", "#afb8c1", "#1f2328"
WIDTH_INCHES, DPI = 8.0, 110


def draw_all(results: Results, folder: Path) -> None:
    """Write ``<measure>.png`` for every measure."""
    folder.mkdir(exist_ok=True)
    for name, what in MEASURES.items():
        draw(what, results.measures[name], folder / f"{name}.png")


def draw(what: Measure, measured: Measured, path: Path) -> None:
    """Write one plot; its metadata name the figures that it shows."""
    bars = len(measured.contenders)
    canvas = Canvas(figsize=(WIDTH_INCHES, 0.9 + 0.42 * bars * len(what.figures)), dpi=DPI, facecolor=PAPER)
    all_axes = canvas.subplots(len(what.figures), 1, squeeze=False)[:, 0]
    for axes, figure in zip(all_axes, what.figures, strict=True):
        _draw_bars(axes, figure, measured)
    canvas.suptitle(what.title, color=INK, fontsize=11, x=0.01, ha="left")
    canvas.tight_layout()
    canvas.savefig(path, metadata={"Figures": digest(measured), "Software": "matplotlib"})


def _draw_bars(axes: Axes, figure: Figure, measured: Measured) -> None:
    names = list(measured.contenders)
    places = range(len(names))
    values = [value for value, _ in medians(figure, measured.contenders).values()]
    colours = [LIMIT if place == 0 else OURS if names[place].startswith(PRODUCT) else OTHER for place in places]
    axes.barh(places, values, color=colours, height=0.62)
    for place, name in enumerate(names):
        dots = [values[figure.key] for values in measured.contenders[name]]
        axes.plot(dots, [place] * len(dots), "|", color=DOT, markersize=9)
        axes.annotate(
            f"{values[place]:,.{figure.digits}f}",
            (max(values[place], *dots), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=9,
        )
    axes.set_yticks(places, names, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    if figure.name != "median":
        axes.set_xlabel(figure.name, fontsize=9, color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.set_facecolor(PAPER)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
