"""Workers are killed under load: their stages are soon attempted again, and no work is lost or done twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.chaos.harness import Fleet
from tests.chaos.ledger import (
    Orphan,
    assert_nothing_lost,
    counted,
    create_many,
    open_runs,
    quantile,
    seconds_until_started_again,
)
from tests.fakes.model_server import ModelServer, random_script
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)

STAGES = 3
AGAIN_WITHIN_SECONDS = 20.0


def test_killed_workers_lose_nothing(fleet: Fleet, model: ModelServer, full: bool) -> None:
    dice = random.Random(7)
    runs, kill_every, kills_wanted = (2000, 5.0, 1000) if full else (60, 1.0, 1)
    model.script = random_script(0.2, 2.0, 0.0, seed=7) if full else random_script(0.5, 1.0, 0.0, seed=7)
    create_many(runs, send_hints=False)
    fleet.start_and_wait(3, threads=32 if full else 8)
    began = time.monotonic()
    orphans: list[Orphan] = []
    kills, next_kill = 0, time.monotonic() + kill_every

    def kill_and_check() -> bool:
        nonlocal kills, next_kill
        if kills < kills_wanted and time.monotonic() >= next_kill:
            victim = dice.choice([worker for worker in fleet.workers if "worker.started" in worker.output()])
            orphans.extend(fleet.kill(victim))
            fleet.start(threads=32 if full else 8)
            kills, next_kill = kills + 1, time.monotonic() + kill_every
        return open_runs() == 0

    eventually(kill_and_check, "every run finished", seconds=900 if full else 60, every=0.1)

    assert_nothing_lost(runs)
    waits = seconds_until_started_again(orphans)
    calls = len(model.requests)
    print(
        f"{runs} runs in {time.monotonic() - began:.0f} s, {kills} workers killed, {len(waits)} attempts orphaned;"
        f" started again after {quantile(waits, 0.5):.1f} s (median), {quantile(waits, 0.99):.1f} s (p99),"
        f" {waits[-1]:.1f} s (most); {calls} model calls, {calls - STAGES * runs} of them repeated"
    )
    assert waits
    assert quantile(waits, 0.99) < AGAIN_WITHIN_SECONDS
    assert calls - STAGES * runs <= len(orphans)
    assert counted()["failures"] == 0
