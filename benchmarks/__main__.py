"""Measures in alternating rounds, and prints medians and their ratio to the limit.

uv run python -m benchmarks [drain] [post] [--rounds 3] [--count 1000]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import drain, post
from benchmarks.drain import Servers
from tests.chaos.harness import OwnServer, own_redis
from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.local.postgres import EmbeddedPostgres


@contextmanager
def servers() -> Iterator[Servers]:
    """Run a PostgreSQL that writes to disk, and a Redis, for the block."""
    with TemporaryDirectory(prefix="vm-bench-") as root, own_redis() as redis:
        postgres = OwnServer(lambda: EmbeddedPostgres(Path(root) / "postgres", durable=True))
        postgres.start()
        try:
            migrate.apply_pending(postgres.url)
            open_pool(postgres.url, max_connections=2, application_name="benchmark")
            yield Servers(postgres.url, redis.url, Path(root))
        finally:
            close_pool()
            postgres.stop()


def measure(contenders: dict[str, Callable[[Servers, int], float]], rounds: int, size: int) -> dict[str, list[float]]:
    """Let each contender measure once per round; return the figures by contender."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    with servers() as given:
        for number in range(1, rounds + 1):
            for name, contender in contenders.items():
                figures[name].append(contender(given, size))
                print(f"round {number}: {name}: {figures[name][-1]:.1f}", file=sys.stderr, flush=True)
    return figures


def table(what: str, figures: dict[str, list[float]]) -> str:
    """Return a Markdown table of the medians, and of the medians of each round's ratio to the first contender."""
    limit = next(iter(figures.values()))
    lines = [f"| {what} | median | of the limit |", "| --- | --- | --- |"]
    for name, values in figures.items():
        ratio = median(value / most for value, most in zip(values, limit, strict=True))
        lines.append(f"| {name} | {median(values):,.0f} | {ratio:.2f} |")
    return "\n".join(lines)


MEASURES = {
    "drain": ("Runs of three stages drained, per second", drain.CONTENDERS),
    "post": ("POST /runs answered, per second", post.CONTENDERS),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="measure", help=f"one or more of {', '.join(MEASURES)}; all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=1000, help="how many runs, or requests, in each round")
    given = parser.parse_args()
    unknown = set(given.measures) - MEASURES.keys()
    if unknown:
        parser.error(f"there is no measure {', '.join(sorted(unknown))}: there are {', '.join(MEASURES)}")
    for name in given.measures or MEASURES:
        what, contenders = MEASURES[name]
        print(table(what, measure(contenders, given.rounds, given.count)), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
