"""What traces cost: the CPU time of a stage with a collector and without one, in alternating rounds.

uv run python -m benchmarks.traces [--rounds 40] [--count 10]

First the spans of a run are made, encoded and sent by themselves, again and again; the least time counts, because other
processes only add to it. That is what traces cost, but for what PostgreSQL makes of a column more; the rounds show
whether anything else is hidden in a stage, and vary by more than that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

from benchmarks.instant_model import InstantProvider
from benchmarks.stage_cost import STAGES, Options, compare
from tests.fakes.collector import FakeCollector
from vm_webapp.execution.attempt_spans import begin_attempt
from vm_webapp.llm.base import Assignment
from vm_webapp.llm.traced import TracedProvider
from vm_webapp.runs.run_spans import begin_run
from vm_webapp.tracing.batches import BATCH
from vm_webapp.tracing.collector import Collector
from vm_webapp.tracing.otlp import Encoder
from vm_webapp.tracing.spans import Kind, Span, Tracer, working_on

TIMES = 30
KEYS = ("research", "plan", "review")


def main() -> None:
    """Measure the spans by themselves, then compare."""
    with FakeCollector() as collector:
        print(f"spans: {1000 * seconds_of_a_stage(collector.endpoint):.3f} ms of CPU for a stage, by themselves")
        collector.spans.clear()
        compare("traces", __doc__, Options({}), Options({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}))
        assert collector.spans, "nothing was traced"


def seconds_of_a_stage(endpoint: str) -> float:
    """Return the CPU time of the spans of a stage, with its share of those of its run."""
    encoder, sender = Encoder({"service.name": "vm-webapp-worker"}), Collector(endpoint, {})
    provider = TracedProvider(InstantProvider(), "https://api.moonshot.ai/v1")
    runs = BATCH // (2 + 2 * STAGES)

    async def traced() -> None:
        spans: list[Span] = []
        tracer = Tracer(spans.append, lambda parent, trace_id: True)
        for _ in range(runs):
            await _run(tracer, provider)
        sender.send(encoder.encode(spans))

    async def untraced() -> None:
        for _ in range(runs):
            await _untraced(provider)

    least = {each: min(_seconds(each) for _ in range(TIMES)) for each in (traced, untraced)}
    return (least[traced] - least[untraced]) / (runs * STAGES)


def _seconds(work: Callable[[], Coroutine[None, None, None]]) -> float:
    began = time.thread_time()
    asyncio.run(work())
    return time.thread_time() - began


async def _run(tracer: Tracer, provider: TracedProvider) -> None:
    run_id = uuid4()
    request = tracer.begin("POST /api/v2/runs", Kind.SERVER, {})
    with working_on(request):
        created = begin_run(run_id, "plan_90d")
        assert created is not None
        created.end()
        request.attributes |= {
            "http.request.method": "POST",
            "url.path": "/api/v2/runs",
            "url.scheme": "http",
            "http.response.status_code": 201,
            "vm.request_id": str(uuid4()),
            "http.route": "/api/v2/runs",
        }
    for key in KEYS:
        with working_on(begin_attempt(tracer, _claim(run_id, key, str(created.context)))):
            await provider.complete(cast(Assignment, None))


async def _untraced(provider: TracedProvider) -> None:
    run_id, _ = uuid4(), uuid4()
    for key in KEYS:
        _claim(run_id, key, None)
        await provider.complete(cast(Assignment, None))


def _claim(run_id: UUID, key: str, trace_context: str | None) -> Any:
    return SimpleNamespace(
        run_id=run_id,
        key=key,
        attempt=1,
        workflow=SimpleNamespace(name="plan_90d"),
        feedback=None,
        made_at=time.monotonic(),
        trace_context=trace_context,
    )


if __name__ == "__main__":
    main()
