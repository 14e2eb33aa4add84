"""Every measure by its name, in the order in which they are made and shown."""

from __future__ import annotations

from benchmarks import between, calls, disk, drain, pickup, post, reads, start
from benchmarks.figures import Figure, Measure, rates

PER_SECOND = Figure("per_second", "median", 0, "share", rising=True)
P50 = Figure("p50_ms", "p50, ms", 2, "times")
P95 = Figure("p95_ms", "p95, ms", 2, "times")

MEASURES = {
    "drain": Measure("Runs of three stages drained, per second", (PER_SECOND,), rates(drain.CONTENDERS), 1000),
    "post": Measure("POST /runs answered, per second", (PER_SECOND,), rates(post.CONTENDERS), 1000),
    "reads": Measure(
        "Reads answered, per second",
        (
            Figure("run_per_second", "`GET /runs/{id}`", 0, "share", rising=True),
            Figure("list_per_second", "`GET /runs`, 50", 0, "share", rising=True),
            Figure("queue_per_second", "`GET /queue`", 0, "share", rising=True),
        ),
        reads.CONTENDERS,
        1000,
    ),
    "calls": Measure(
        "Calls of 2 s over 256 slots",
        (Figure("seconds", "wall time, s", 2, "share"), Figure("memory_mb", "memory, MB", 0, "")),
        calls.CONTENDERS,
        512,
    ),
    "between": Measure("Between two calls of a run", (P50, P95), between.CONTENDERS, 100),
    "pickup": Measure(
        "From the commit of POST /runs to the claim", (P50, P95), pickup.CONTENDERS, 200, pickup.SERVER_SETTINGS
    ),
    "disk": Measure(
        "A finished run of three stages", (Figure("bytes", "bytes on disk", 0, "times"),), disk.CONTENDERS, 2000
    ),
    "start": Measure(
        "Start on an existing database",
        (
            Figure("live_seconds", "API live, s", 2, "times"),
            Figure("ready_seconds", "`serve` ready, s", 2, "times"),
            Figure("memory_mb", "idle, MB", 0, ""),
        ),
        start.CONTENDERS,
        3,
    ),
}
