"""A picture of what policies make of each load: the workers that it needs, and those that were there."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.archetypes import ARCHETYPES, HOUR
from benchmarks.elasticity import demand
from benchmarks.figures import OURS as PRODUCT
from benchmarks.plots import DPI, INK, OTHER, OURS, PAPER
from benchmarks.policies import LIMITS, POLICIES
from benchmarks.simulation import EVERY_SECONDS, simulate

SEED = 1
LINES = {PRODUCT: OURS, "KEDA, depth": "#bc4c00", "latency bands": "#8250df", "CPU": "#1a7f37"}


def draw(path: Path, figures: str) -> None:
    """Write the picture: a panel for each load, one world of it.

    Args:
        path: the file.
        figures: what identifies the figures of the same simulations.
    """
    canvas = Canvas(figsize=(9.0, 1.55 * len(ARCHETYPES)), dpi=DPI, facecolor=PAPER)
    panels = canvas.subplots(len(ARCHETYPES), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, ARCHETYPES, strict=True):
        _draw_load(axes, name)
    panels[0].legend(ncols=5, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.25), frameon=False)
    panels[-1].set_xlabel("hours", fontsize=9, color=INK)
    canvas.tight_layout()
    canvas.savefig(path, metadata={"Figures": figures, "Software": "matplotlib"})


def _draw_load(axes: Axes, name: str) -> None:
    archetype = ARCHETYPES[name]
    world = archetype.world(SEED)
    needed = demand(world, least=LIMITS.min_workers, most=LIMITS.max_workers)
    hours = [step * EVERY_SECONDS / HOUR for step in range(len(needed))]
    axes.fill_between(hours, needed, color=OTHER, alpha=0.5, linewidth=0, step="post", label="needed")
    for policy, colour in LINES.items():
        supply = simulate(world, POLICIES[policy]()).supply[: len(needed)]
        width = 1.6 if policy == PRODUCT else 0.9
        axes.step(hours, supply, where="post", color=colour, linewidth=width, label=policy)
    axes.set_title(f"{name}: {archetype.says}", fontsize=9, color=INK, loc="left")
    axes.set_ylabel("workers", fontsize=8, color=INK)
    axes.set_xlim(0, world.seconds / HOUR)
    axes.set_ylim(bottom=0)
    axes.tick_params(colors=INK, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
