"""The spans of attempts at a stage, which are parts of their run's trace."""

from __future__ import annotations

import time
from collections.abc import Iterable
from uuid import UUID

from vm_webapp.runs.lifecycle import Claim, LostAttempt
from vm_webapp.runs.lifecycle.rescue import WORKER_LOST
from vm_webapp.runs.states import LEASE_SECONDS
from vm_webapp.tracing.spans import Kind, Span, Tracer, Value

NANOSECONDS = 1_000_000_000


def begin_attempt(tracer: Tracer, claim: Claim) -> Span:
    """Begin the span of an attempt: from its claim on.

    Args:
        tracer: makes the span.
        claim: the attempt. Where its run was created untraced, the attempt is a trace of its own.
    """
    attributes = {**_facts(claim.run_id, claim.key, claim.attempt), "vm.workflow": claim.workflow.name}
    if claim.feedback is not None:
        attributes["vm.changes_requested"] = True
    # The claim waited for a thread of this process.
    start_ns = time.time_ns() - int((time.monotonic() - claim.made_at) * NANOSECONDS)
    return tracer.begin(f"stage {claim.key}", Kind.CONSUMER, attributes, parent=claim.trace_context, start_ns=start_ns)


def note_lost_attempts(tracer: Tracer, lost: Iterable[LostAttempt]) -> None:
    """Record attempts for the workers that cannot any more: from the last sign of life to the rescue."""
    for each in lost:
        if each.trace_context is not None:
            last_sign = each.lease_expires_at.timestamp() - LEASE_SECONDS
            span = tracer.begin(
                f"stage {each.key}",
                Kind.CONSUMER,
                {**_facts(each.run_id, each.key, each.attempt), "vm.outcome": "rescued"},
                parent=each.trace_context,
                start_ns=int(last_sign * NANOSECONDS),
            )
            span.error = WORKER_LOST.code
            span.end()


def _facts(run_id: UUID, key: str, attempt: int) -> dict[str, Value]:
    return {"vm.run_id": str(run_id), "vm.stage": key, "vm.attempt": attempt}
