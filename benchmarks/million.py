"""How a long history is borne: the pages of the workspace, then a steady load with autovacuum on.

uv run python -m benchmarks million [--runs 1000000] [--minutes 15]

Fills a PostgreSQL of its own, which takes about eight minutes and 15 GB of disk for a million runs, and writes
benchmarks/results/million.json. ``refresh`` then makes the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.conditions import read_conditions
from benchmarks.filled import filled_servers
from benchmarks.long_history import History, add_long_history
from benchmarks.results import MILLION, UnusableResults
from benchmarks.steady_load import PER_SECOND, TABLES, Minute, bear_load
from benchmarks.workspace import time_pages

FEWEST = 1000  # with fewer, not every kind of run exists
AGAIN = "measure anew: uv run python -m benchmarks million"


@dataclass(frozen=True, slots=True)
class Borne:
    """What ``million`` measured.

    Attributes:
        conditions: see ``read_conditions``; with ``runs``, how many runs there were before the load.
        pages: milliseconds of each page of the workspace.
        minutes: of the load.
    """

    conditions: dict[str, Any]
    pages: dict[str, float]
    minutes: list[Minute]

    def save(self, path: Path) -> None:
        """Write the file anew."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def pages_table(self) -> str:
        """Return a Markdown table of the pages."""
        lines = [f"| With {self.conditions['runs']:,} runs | ms |", "| --- | --- |"]
        return "\n".join([*lines, *(f"| `{path}` | {ms:.0f} |" for path, ms in self.pages.items())])

    def load_table(self) -> str:
        """Return a Markdown table that compares the first minute of the load, the middle one and the last."""
        numbers = sorted({1, (len(self.minutes) + 1) // 2, len(self.minutes)})
        shown = [self.minutes[number - 1] for number in numbers]
        rows: Mapping[str, list[str]] = {
            "POST /runs, p50 / p95 ms": [_pair(each.create_ms) for each in shown],
            "GET /runs, the newest 50": [_pair(each.list_ms) for each in shown],
            "GET /runs/{id}": [_pair(each.run_ms) for each in shown],
            "from POST to the claim": [_pair(each.wait_ms) for each in shown],
            **{f"`{table}`, MB": [f"{each.megabytes[table]:,.0f}" for each in shown] for table in TABLES},
            **{f"`{table}`, dead rows": [f"{each.dead_share[table]:.1%}" for each in shown] for table in TABLES},
            **{f"`{table}`, autovacuums": [str(each.vacuumed[table]) for each in shown] for table in TABLES},
        }
        return "\n".join(
            (
                f"| {PER_SECOND} runs a second | {' | '.join(f'minute {number}' for number in numbers)} |",
                f"| --- |{' --- |' * len(numbers)}",
                *(f"| {name} | {' | '.join(values)} |" for name, values in rows.items()),
            )
        )


def load_million(path: Path = MILLION) -> Borne:
    """Read a file that ``save`` wrote.

    Raises:
        UnusableResults: there is no such file, or it is another one.
    """
    try:
        found = json.loads(path.read_text())
        return Borne(found["conditions"], found["pages"], [Minute(**minute) for minute in found["minutes"]])
    except OSError as error:
        raise UnusableResults(f"{path.name} cannot be read ({error.strerror}): {AGAIN}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableResults(f"{path.name} is not a file that the benchmarks saved: {AGAIN}") from error


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks million",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=1_000_000, help=f"ended runs, at least {FEWEST:,} (1000000)")
    parser.add_argument("--minutes", type=int, default=15, help="of load, at least 1 (15)")
    parser.add_argument("--save", type=Path, default=MILLION, metavar="FILE", help="another file for the figures")
    given = parser.parse_args(arguments)
    if given.runs < FEWEST or given.minutes < 1:
        parser.error(f"--runs must be at least {FEWEST:,}, and --minutes at least 1")
    borne = measure(given.runs, given.minutes)
    borne.save(given.save)
    print(borne.pages_table(), borne.load_table(), sep="\n\n")


def measure(runs: int, minutes: int) -> Borne:
    """Fill a database with so many runs, time the pages, and keep up the load for so many minutes."""

    def fill(url: str) -> History:
        began = time.monotonic()
        history = add_long_history(url, runs)
        print(f"{runs:,} runs after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return history

    with filled_servers(fill) as (servers, history):
        conditions = read_conditions(servers) | {"runs": runs}
        return Borne(conditions, time_pages(servers, history), bear_load(servers, minutes))


def _pair(quantiles: Sequence[float]) -> str:
    return " / ".join(f"{each:.1f}" for each in quantiles)
