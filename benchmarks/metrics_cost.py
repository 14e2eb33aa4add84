"""What metrics cost: the CPU time of a stage, counting and publishing or not, in alternating rounds.

uv run python -m benchmarks.metrics_cost [--rounds 40] [--count 10]
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from benchmarks.stage_cost import Options, compare
from vm_webapp.fleet.process_metrics import Publisher

OFF = "from benchmarks.metrics_cost import stop_counting; stop_counting(); "


def stop_counting() -> None:
    """Count and publish nothing in this process from now on."""
    for kind in (Counter, Gauge, Histogram):
        setattr(kind, "labels", lambda self, *values: self)  # noqa: B010 - mypy refuses an assignment
    for kind, name in ((Counter, "inc"), (Gauge, "inc"), (Gauge, "dec"), (Gauge, "set"), (Histogram, "observe")):
        setattr(kind, name, lambda self, *value: None)
    setattr(Publisher, "publish_once", lambda self: False)  # noqa: B010


if __name__ == "__main__":
    compare("metrics", __doc__, Options({}, OFF), Options({}))
