"""Makes the tables of README.md and docs/performance.md, and the plots, anew from saved figures.

uv run --group benchmarks python -m benchmarks refresh [FILE]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.million import load_million
from benchmarks.pages import PAGES, blocks, rendered
from benchmarks.plans import load_plans
from benchmarks.results import MEASURED, UnusableResults, load
from tests.support.processes import ROOT

PLOTS = ROOT / "docs" / "plots"


def main(arguments: Sequence[str]) -> None:
    """Write pages and plots; keep FILE as the one that they were made of."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks refresh", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=MEASURED, help="what --save wrote (the one kept here)")
    try:
        refresh(parser.parse_args(arguments).file)
    except UnusableResults as error:
        sys.exit(str(error))


def refresh(file: Path) -> None:
    """Write pages and plots from a file of figures.

    Raises:
        UnusableResults: it cannot be used, or the package that draws is missing.
    """
    # Not at the top: only this command needs the package that draws.
    try:
        from benchmarks import plots
    except ImportError as error:
        again = "uv run --group benchmarks python -m benchmarks refresh"
        raise UnusableResults(f"the plots need {error.name}: {again} {file.name}") from error
    from benchmarks.measures import MEASURES

    results, plans = load(file, MEASURES), load_plans()
    texts = blocks(results, plans, load_million())
    for page in PAGES:
        page.write_text(rendered(page.read_text(), texts))
    plots.draw_all(results, PLOTS)
    if file.resolve() != MEASURED:
        shutil.copyfile(file, MEASURED)
