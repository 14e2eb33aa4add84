"""Compares policies that choose a number of workers, on simulated loads, by the elasticity metrics of SPEC RG.

uv run --group benchmarks python -m benchmarks autoscale [--seeds 5]
uv run python -m benchmarks autoscale --check

Writes benchmarks/results/autoscale.json, the tables of docs/autoscaling.md and docs/plots/autoscale.png. ``--check``
runs a short load with real workers and compares it with the simulation instead, and keeps what it found in
benchmarks/results/autoscale_check.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import archetypes, autoscale_check, policies
from benchmarks.archetypes import ARCHETYPES
from benchmarks.autoscale_check import MOST_APART
from benchmarks.elasticity import measured
from benchmarks.pages import rendered
from benchmarks.policies import LIMITS, POLICIES
from benchmarks.results import FOLDER
from benchmarks.simulation import simulate
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "autoscaling.md"
PLOT = ROOT / "docs" / "plots" / "autoscale.png"
COMPARED = FOLDER / "autoscale.json"
CHECKED = FOLDER / "autoscale_check.json"
COLUMNS = {
    "under_percent": ("under, %", 1),
    "over_percent": ("over, %", 0),
    "time_under_percent": ("time under, %", 1),
    "time_over_percent": ("time over, %", 0),
    "instability_percent": ("instability, %", 0),
    "wait_p95_seconds": ("wait p95, s", 0),
    "wait_p99_seconds": ("p99, s", 0),
    "instance_hours": ("instance hours", 1),
    "changes": ("changes", 0),
}

Compared = Mapping[str, Mapping[str, Mapping[str, float]]]
"""The medians of the figures, by archetype and policy."""


def main(arguments: Sequence[str]) -> None:
    """Compare and write, or check the simulation against real workers."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks autoscale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="worlds of each load, of which the median counts (5)")
    parser.add_argument("--check", action="store_true", help="run real workers, and compare (four minutes)")
    given = parser.parse_args(arguments)
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    if given.check:
        found = autoscale_check.check()
        _save(CHECKED, found)
    else:
        _save(COMPARED, {"conditions": conditions(given.seeds), "compared": compare(given.seeds)})
        _draw()
    texts = blocks()
    PAGE.write_text(rendered(PAGE.read_text(), texts))
    print(texts["check" if given.check else "policies"])
    if given.check and (apart := [one for one in found["compared"] if one["apart_percent"] > MOST_APART]):
        sys.exit(f"{len(apart)} of {len(found['compared'])} figures are more than {MOST_APART} % apart")


def compare(seeds: int) -> Compared:
    """Return what each policy makes of each load, as medians over so many worlds."""
    return {name: {policy: figures_of(name, policy, seeds) for policy in POLICIES} for name in ARCHETYPES}


def figures_of(archetype: str, policy: str, seeds: int) -> dict[str, float]:
    """Return the medians of the figures of a policy over so many worlds of a load."""
    found = []
    for seed in range(1, seeds + 1):
        world = ARCHETYPES[archetype].world(seed)
        simulated = simulate(world, POLICIES[policy]())
        found.append(measured(world, simulated, least=LIMITS.min_workers, most=LIMITS.max_workers))
    return {key: round(median(values[key] for values in found), 3) for key in found[0]}


def conditions(seeds: int) -> dict[str, object]:
    """Return what the figures follow from; they are the same on every machine."""
    return {
        "seeds": seeds,
        "stages_of_run": archetypes.STAGES,
        "mean_stage_seconds": archetypes.STAGE_SECONDS,
        "sigma": archetypes.SPREAD,
        "min_workers": LIMITS.min_workers,
        "max_workers": LIMITS.max_workers,
        "target_wait_seconds": LIMITS.target_wait_seconds,
        "cpu_seconds_of_stage": policies.CPU_OF_STAGE,
    }


def blocks() -> dict[str, str]:
    """Return the blocks of the page by their names, made of the saved figures."""
    return {
        "policies": table(json.loads(COMPARED.read_text())["compared"]),
        "check": autoscale_check.table(json.loads(CHECKED.read_text())),
    }


def digest() -> str:
    """Return what identifies the saved figures: their SHA-256, in hexadecimal digits."""
    return hashlib.sha256(COMPARED.read_bytes()).hexdigest()


def table(compared: Compared) -> str:
    """Return a Markdown table of each load and policy."""
    lines = [["load", "policy", *(title for title, _ in COLUMNS.values())], ["---"] * (2 + len(COLUMNS))]
    for name, by_policy in compared.items():
        for number, (policy, values) in enumerate(by_policy.items()):
            cells = [f"{values[key]:,.{digits}f}" for key, (_, digits) in COLUMNS.items()]
            lines.append([name if number == 0 else "", policy, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _save(path: Path, found: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")


def _draw() -> None:
    try:
        from benchmarks import autoscale_plot
    except ImportError as error:
        print(f"no plot: it needs {error.name} (uv run --group benchmarks)", file=sys.stderr)
        return
    autoscale_plot.draw(PLOT, digest())
