"""What traces cost: the CPU time of API and worker for a stage, with a collector and without, in alternating rounds.

uv run python -m benchmarks.traces [--rounds 3] [--count 200]
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.drain import Servers
from benchmarks.stage_cost import STAGES, compare, milliseconds_per_stage
from tests.fakes.collector import FakeCollector
from tests.support.waiting import eventually
from vm_webapp.tracing.batches import EVERY_SECONDS

SETTLE_SECONDS = EVERY_SECONDS + 1.0


def measure(given: Servers, folder: Path, count: int, tracing: bool) -> float:
    """Return the CPU time for a stage, in milliseconds."""
    with FakeCollector() as collector:

        def settle(runs: int) -> None:
            # A request, its run, and of each stage an attempt and a call: what is still to be sent also takes time.
            # Both wait as long, for idle processes use CPU, too.
            time.sleep(SETTLE_SECONDS)
            if tracing:
                wanted = runs * (2 + 2 * STAGES)
                eventually(lambda: len(collector.spans) >= wanted, f"{wanted} spans", seconds=30, every=0.2)

        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint} if tracing else {}
        return milliseconds_per_stage(given, folder, count, settle=settle, **endpoint)


if __name__ == "__main__":
    compare("traces", __doc__, measure)
