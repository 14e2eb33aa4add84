"""What metrics cost: the CPU time of API and worker for a stage, counting and not, in alternating rounds.

uv run python -m benchmarks.metrics_cost [--rounds 3] [--count 200]

Runs of three stages are created by POST and executed with the instant model, so that a stage is as cheap as it gets.
Time of the clock is not compared: the two contenders do not run at the same moment.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx
from prometheus_client import Counter, Gauge, Histogram

from benchmarks.__main__ import positive, servers
from benchmarks.drain import Servers, read
from tests.support.deployment import address_of, managed_environment
from tests.support.processes import Program
from tests.support.waiting import eventually
from vm_webapp.fleet.process_metrics import Publisher

STAGES = 3
WARM_UP = 20
TOKEN = "b" * 32
NEW_RUN = {"workflow": "plan_90d", "request": "A plan for a bakery that delivers by bicycle", "auto_approve": True}
TICKS = os.sysconf("SC_CLK_TCK")
OFF = "from benchmarks.metrics_cost import stop_counting; stop_counting(); "
API = "import sys; from vm_webapp.cli import main; sys.exit(main(['serve', '--port', '0']))"
WORKER = "import sys; from benchmarks.instant_worker import main; sys.exit(main())"


def stop_counting() -> None:
    """Count and publish nothing in this process from now on."""
    for kind in (Counter, Gauge, Histogram):
        setattr(kind, "labels", lambda self, *values: self)  # noqa: B010 - mypy refuses an assignment
    for kind, name in ((Counter, "inc"), (Gauge, "inc"), (Gauge, "dec"), (Gauge, "set"), (Histogram, "observe")):
        setattr(kind, name, lambda self, *value: None)
    setattr(Publisher, "publish_once", lambda self: False)  # noqa: B010


@contextmanager
def running(given: Servers, folder: Path, *, counting: bool) -> Iterator[tuple[Program, Program, httpx.Client]]:
    """Run an API and a worker with the instant model; yield them and a client."""
    env = managed_environment(
        given.database_url,
        given.redis_url,
        folder,
        VM_API_TOKEN=TOKEN,
        KIMI_API_KEY="sk-test",
        LOG_LEVEL="WARNING",
    )
    before = "" if counting else OFF
    with ExitStack() as stack:
        api = Program([sys.executable, "-c", before + API], env, folder / "api")
        stack.callback(api.stop)
        worker = Program([sys.executable, "-c", before + WORKER], env, folder / "worker")
        stack.callback(worker.stop)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client = httpx.Client(base_url=f"{address_of(api)}/api/v2", headers=headers, trust_env=False)
        yield api, worker, stack.enter_context(client)


def milliseconds_per_stage(given: Servers, folder: Path, count: int, *, counting: bool) -> float:
    """Return the CPU time of API and worker for a stage of so many runs, in milliseconds."""
    read(given, "TRUNCATE runs CASCADE")
    with running(given, folder, counting=counting) as (api, worker, client):
        _carry(given, client, WARM_UP)
        before = _cpu_seconds(api, worker)
        _carry(given, client, count)
        return 1000 * (_cpu_seconds(api, worker) - before) / (count * STAGES)


def _carry(given: Servers, client: httpx.Client, count: int) -> None:
    for _ in range(count):
        client.post("/runs", json=NEW_RUN).raise_for_status()
    unfinished = "SELECT 1 FROM runs WHERE finished_at IS NULL LIMIT 1"
    eventually(lambda: not read(given, unfinished), "every run is finished", seconds=300, every=0.2)


def _cpu_seconds(*programs: Program) -> float:
    fields = [Path(f"/proc/{each.pid}/stat").read_text().rsplit(")", 1)[1].split() for each in programs]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics_cost", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=3, help="how often each of the two measures (3)")
    parser.add_argument("--count", type=positive, default=200, help="runs in each round (200)")
    given = parser.parse_args()
    figures: dict[str, list[float]] = {"off": [], "on": []}
    with servers({}) as started:
        for number in range(given.rounds):
            for name, values in figures.items():
                folder = started.folder / f"{name}-{number}"
                values.append(milliseconds_per_stage(started, folder, given.count, counting=name == "on"))
                print(f"round {number + 1}: {name:3} {values[-1]:.3f} ms of CPU for a stage", flush=True)
    off, on = median(figures["off"]), median(figures["on"])
    print(f"off {off:.3f} ms, on {on:.3f} ms: {100 * (on - off) / off:+.1f} %")


if __name__ == "__main__":
    main()
