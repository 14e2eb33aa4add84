"""Runs a short load with real workers under the product's policy, and compares what happened with its simulation.

The load is the same in both: the times at which runs arrive and the seconds of each stage. So is the policy, which
reads the real queue's figures here. How long a worker takes to start is measured, and given to the simulation.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from actors import connected
from benchmarks.archetypes import stage_seconds
from benchmarks.conditions import read_conditions
from benchmarks.drain import Servers
from benchmarks.policies import ours
from benchmarks.simulation import EVERY_SECONDS, MEAN_OF, Policy, Run, World, simulate
from benchmarks.timed_worker import WORKFLOW
from tests.chaos.ledger import quantile
from tests.support.deployment import managed_environment
from tests.support.processes import Program
from tests.support.runs import create, read
from tests.support.waiting import eventually
from vm_webapp.ops.autoscale.shapes import Figures, Limits

SEED = 3
STAGES, STAGE_MEAN = 3, 4.0
SLOTS = 4  # of a worker
LOAD_SECONDS, SPIKE_AT, SPIKE_RUNS = 120.0, 42.0, 30
BETWEEN_RUNS = 8.0  # seconds, at the mean
LIMITS = Limits(min_workers=1, max_workers=4, target_wait_seconds=10)
POLL_SECONDS = 0.1
MOST_APART = 15  # percent

_FIGURES = """
    SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
           count(*) FILTER (WHERE status = 'queued' AND available_at <= now()) AS due,
           count(*) FILTER (WHERE status = 'running') AS running,
           coalesce(extract(epoch FROM now() - min(available_at) FILTER (WHERE status = 'queued')), 0)::float8
               AS oldest,
           count(*) FILTER (WHERE coalesce(queued_at, started_at) > now() - interval '60 s') AS arrived,
           count(*) FILTER (WHERE finished_at > now() - interval '60 s') AS ended,
           (SELECT avg(extract(epoch FROM finished_at - started_at))::float8
              FROM (SELECT * FROM stages WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT %(mean_of)s) last
           ) AS mean
      FROM stages
"""
_WORKING = "SELECT pid, in_flight FROM worker_heartbeats WHERE state = 'working'"
_HAPPENED = """
    SELECT extract(epoch FROM stages.started_at - stages.queued_at)::float8 AS waited,
           extract(epoch FROM runs.finished_at - runs.created_at)::float8 AS lasted,
           extract(epoch FROM runs.finished_at - (SELECT min(created_at) FROM runs))::float8 AS ended
      FROM stages JOIN runs ON runs.id = stages.run_id
     WHERE position = 1
"""


@dataclass(slots=True)
class _Workers:
    """The processes, and what was measured of them."""

    servers: Servers
    began: dict[int, float] = field(default_factory=dict)
    start_seconds: list[float] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)

    def start(self) -> None:
        further = {"VM_WORKER_THREADS": str(SLOTS)}
        env = managed_environment(self.servers.database_url, self.servers.redis_url, self.servers.folder, **further)
        folder = Path(self.servers.folder, f"worker-{len(self.programs)}")
        self.programs.append(Program([sys.executable, "-m", "benchmarks.timed_worker"], env, folder))
        self.began[self.programs[-1].pid] = time.monotonic()

    def see(self) -> list[dict[str, Any]]:
        """Return those that work, and note how long new ones took to start."""
        working = read(_WORKING)
        for one in working:
            if began := self.began.pop(one["pid"], None):
                self.start_seconds.append(time.monotonic() - began)
        return working

    def stop(self) -> None:
        for program in self.programs:
            program.stop()


def load(seed: int = SEED) -> list[Run]:
    """Return the runs: a few all the time, and many at once."""
    chance, at, times = random.Random(seed), 0.0, [SPIKE_AT + number / 10 for number in range(SPIKE_RUNS)]
    while (at := at + chance.expovariate(1 / BETWEEN_RUNS)) < LOAD_SECONDS:
        times.append(at)
    return [Run(at, tuple(stage_seconds(chance, STAGE_MEAN) for _ in range(STAGES))) for at in sorted(times)]


def check() -> dict[str, Any]:
    """Return the conditions, and each figure of the real run beside the simulated one's."""
    from benchmarks.__main__ import servers

    runs = load()
    with servers({}) as given, connected(given.redis_url):
        conditions = read_conditions(given)
        workers = _Workers(given)
        try:
            workers.start()
            eventually(workers.see, "the first worker works", seconds=60)
            workers.start_seconds.clear()
            instance_seconds, end = _drive(runs, workers, ours(LIMITS))
        finally:
            workers.stop()
        happened = read(_HAPPENED)
        asked = len(workers.programs)
    real = _summary(
        waits=[one["waited"] for one in happened],
        lasted=[one["lasted"] for one in happened],
        last=max(one["ended"] for one in happened) + runs[0].at,
        instance_seconds=instance_seconds,
        workers=asked,
    )
    starts = mean(workers.start_seconds)
    world = World(runs, end, slots_each=SLOTS, start_seconds=starts)
    found = simulate(world, ours(LIMITS))
    simulated = _summary(
        waits=found.waits,
        lasted=[end - runs[number].at for number, end in found.ends.items()],
        last=max(found.ends.values()),
        instance_seconds=found.instance_seconds,
        workers=max(found.asked),
    )
    return {
        "conditions": conditions | {"seed": SEED, "runs": len(runs), "start_seconds": round(starts, 2)},
        "compared": [
            {
                "figure": name,
                "real": round(value, 2),
                "simulated": round(simulated[name], 2),
                "apart_percent": round(100 * abs(simulated[name] - value) / value, 1),
            }
            for name, value in real.items()
        ],
    }


def table(found: Mapping[str, Any]) -> str:
    """Return a Markdown table of what ``check`` returned."""
    lines = ["| | real workers | simulated | apart |", "| --- | --- | --- | --- |"]
    for one in found["compared"]:
        lines.append(f"| {one['figure']} | {one['real']:g} | {one['simulated']:g} | {one['apart_percent']:g} % |")
    return "\n".join(lines)


def _drive(runs: Sequence[Run], workers: _Workers, policy: Policy) -> tuple[float, float]:
    """Let runs arrive and the policy decide until all have ended; return the instance seconds, and how long it took."""
    began = time.monotonic()
    arrivals = threading.Thread(target=_arrive, args=(runs, began), daemon=True)
    arrivals.start()
    instance_seconds, last, tick = 0.0, 0.0, 0
    while arrivals.is_alive() or read("SELECT 1 FROM runs WHERE finished_at IS NULL LIMIT 1"):
        now = time.monotonic() - began
        instance_seconds, last = instance_seconds + len(workers.programs) * (now - last), now
        working = workers.see()
        if now >= tick * EVERY_SECONDS:
            tick += 1
            asked = policy(_figures(working, len(workers.programs)), now)
            for _ in range(asked - len(workers.programs)):
                workers.start()
        time.sleep(POLL_SECONDS)
    return instance_seconds, time.monotonic() - began


def _arrive(runs: Sequence[Run], began: float) -> None:
    for run in runs:
        time.sleep(max(0.0, began + run.at - time.monotonic()))
        create(WORKFLOW, f"A plan {' '.join(f'{seconds:.3f}' for seconds in run.stages)}", auto_approve=True)


def _figures(working: Sequence[Mapping[str, Any]], programs: int) -> Figures:
    (found,) = read(_FIGURES, mean_of=MEAN_OF)
    return Figures(
        queued=found["queued"],
        due=found["due"],
        running=found["running"],
        oldest_due_seconds=found["oldest"],
        claimable=found["due"],
        stopped=False,
        arrivals_per_minute=found["arrived"],
        completions_per_minute=found["ended"],
        mean_stage_seconds=found["mean"],
        workers=len(working),
        starting=programs - len(working),
        draining=0,
        slots=SLOTS * len(working),
        # Of the same moment as the stages: a heartbeat is up to a second old.
        in_flight=found["running"],
        slots_each=SLOTS,
    )


def _summary(
    *, waits: Sequence[float], lasted: Sequence[float], last: float, instance_seconds: float, workers: int
) -> dict[str, float]:
    return {
        "mean wait of a run, s": mean(waits),
        "wait at p95, s": quantile(sorted(waits), 0.95),
        "mean time from arrival to end, s": mean(lasted),
        "end of the last run, s": last,
        "workers": float(workers),
        "instance seconds": instance_seconds,
    }
