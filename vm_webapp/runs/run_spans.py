"""The spans of a run, beside those of its attempts: its creation and its reviews.

A run is one trace: the one of the request that created it, whoever goes on with it and on whichever day. The span of
its creation, which its stages are parts of, ends with the creation: backends show a span when it has ended, and a run
may wait for a person for a week.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from vm_webapp.tracing.spans import Kind, Span, current_span

NANOSECONDS = 1_000_000_000


def begin_run(run_id: UUID, workflow: str) -> Span | None:
    """Begin the span of a run's creation, a part of the request that creates it; None where that is not traced.

    The caller ends it once the run exists. Its ``traceparent`` is the trace context of the run's stages.
    """
    request = current_span()
    if request is None:
        return None
    attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": workflow,
        "vm.run_id": str(run_id),
    }
    return request.child(f"run {workflow}", Kind.PRODUCER, {**attributes})


def note_review(run_id: UUID, stage_key: str, decision: str, *, since: datetime, trace_context: str | None) -> None:
    """Record how long a draft waited for a person, in the run's trace, if the request that decides it is traced.

    Args:
        run_id: the run.
        stage_key: the stage.
        decision: what the person decided, such as ``approved``.
        since: when the draft was written.
        trace_context: the ``traceparent`` of the stage.
    """
    request = current_span()
    if request is None:
        return
    span = request.caused(
        f"review {stage_key}",
        {"vm.run_id": str(run_id), "vm.stage": stage_key, "vm.decision": decision},
        within=trace_context,
        start_ns=int(since.timestamp() * NANOSECONDS),
    )
    if span is not None:
        span.end()
