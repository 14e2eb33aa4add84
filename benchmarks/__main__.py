"""Measures in alternating rounds, and prints medians and how they compare with the limit.

uv run python -m benchmarks [drain] [post] [reads] [calls] [between] [pickup] [start] [disk] [--rounds 3] [--count N]
                            [--save FILE]
uv run --group benchmarks python -m benchmarks refresh [FILE]
uv run python -m benchmarks explain [--runs 1000000]
uv run python -m benchmarks million [--runs 1000000] [--minutes 15]
uv run --group benchmarks python -m benchmarks autoscale [--seeds 5] [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import autoscale, bare_api, calls, drain, explain, million, post_client, refresh
from benchmarks.conditions import read_conditions
from benchmarks.drain import Servers
from benchmarks.figures import Measure, Values, table
from benchmarks.measures import MEASURES
from benchmarks.results import Measured, Results
from tests.chaos.harness import OwnServer, configure, own_redis
from tests.support.folders import open_folder
from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.local.postgres import EmbeddedPostgres

PARAMETERS = {
    "threads_by_hand": drain.LIMIT_THREADS,
    "threads_of_bare_handler": bare_api.THREADS,
    "clients_of_post": post_client.CLIENTS,
    "slots_of_calls": calls.SLOTS,
    "seconds_of_call": calls.CALL_SECONDS,
}
COMMANDS = {"refresh": refresh.main, "explain": explain.main, "million": million.main, "autoscale": autoscale.main}


@contextmanager
def servers(settings: Mapping[str, str]) -> Iterator[Servers]:
    """Run a PostgreSQL with these settings that writes to disk, and a Redis, for the block."""
    with open_folder("vm-bench-") as root, own_redis() as redis:
        postgres = OwnServer(lambda: EmbeddedPostgres(root / "postgres", durable=True))
        postgres.start()
        try:
            given = Servers(postgres.url, redis.url, root)
            if settings:
                configure(postgres.url, settings)
                postgres.stop()
                postgres.start()
            migrate.apply_pending(postgres.url)
            open_pool(postgres.url, max_connections=2, application_name="benchmark")
            yield given
        finally:
            close_pool()
            postgres.stop()


def measure(what: Measure, rounds: int, count: int) -> Measured:
    """Let each contender measure once per round; return the figures by contender."""
    figures: dict[str, list[Values]] = {name: [] for name in what.contenders}
    with servers(what.server_settings) as given:
        for number in range(1, rounds + 1):
            for name, contender in what.contenders.items():
                values = contender(given, count)
                figures[name].append(values)
                shown = ", ".join(f"{key} {value:.2f}" for key, value in values.items())
                print(f"round {number}: {name}: {shown}", file=sys.stderr, flush=True)
    return Measured(count, figures)


def positive(text: str) -> int:
    """Return the number that a text says.

    Raises:
        ValueError: it is none, or less than 1.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measures", nargs="*", metavar="measure", help=f"one or more of {', '.join(MEASURES)}; all")
    parser.add_argument("--rounds", type=positive, default=3, help="how often each contender measures (3)")
    parser.add_argument("--count", type=positive, help="how many runs, or requests, in each round (each its own)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write every figure and the conditions to this file")
    given = parser.parse_args(arguments)
    unknown = set(given.measures) - MEASURES.keys()
    if unknown:
        parser.error(f"there is no measure {', '.join(sorted(unknown))}: there are {', '.join(MEASURES)}")
    if given.save and not given.save.absolute().parent.is_dir():
        # Before the measures are made, and not after.
        parser.error(f"there is no folder {given.save.parent}: create it, or name another file")
    return given


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] and (command := COMMANDS.get(sys.argv[1])):
        command(sys.argv[2:])
        return
    given = parse(sys.argv[1:])
    with servers({}) as started:
        results = Results(read_conditions(started) | {"rounds": given.rounds} | PARAMETERS)
    for name in dict.fromkeys(given.measures) or MEASURES:
        what = MEASURES[name]
        results.measures[name] = measure(what, given.rounds, given.count or what.count)
        print(table(what, results.measures[name].contenders), "", sep="\n", flush=True)
        if given.save:
            # After each measure: what was measured stays if a later one fails.
            results.save(given.save)


if __name__ == "__main__":
    main()
