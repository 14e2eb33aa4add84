"""The place in a trace that stands on the rows of stages: who puts it there, who reads it, and where there is none."""

from __future__ import annotations

from uuid import uuid4

import pytest

from actors.duties.rescue import Rescue
from tests.db.stages import expire_leases
from tests.support.runs import CreatedRun, create, read
from tests.support.tracing import a_request, recording
from vm_webapp.access.actor import Actor
from vm_webapp.errors import InvalidInput
from vm_webapp.execution.activity import Activity
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant, NewRun
from vm_webapp.runs.states import Failure
from vm_webapp.tracing.spans import Span, working_on
from vm_webapp.workflows.loader import load_catalog

pytestmark = pytest.mark.usefixtures("database")

WORKER = Claimant(uuid4(), "kimi")
ACTOR = Actor("local")
TEXT = Completion("# A document", "kimi", "k", 10, 20)
PERMANENT = Failure("llm_bad_request", "no", permanent=True)


def claim(created: CreatedRun) -> Claim:
    """Claim the run's first stage."""
    found = lifecycle.claim_stage(created.stage_id, WORKER, token=uuid4())
    assert found is not None
    return found


def contexts(created: CreatedRun) -> list[str | None]:
    """Return the place in a trace of each stage, in their order."""
    found = read("SELECT trace_context FROM stages WHERE run_id = %(id)s ORDER BY position", id=created.run.id)
    return [each["trace_context"] for each in found]


def traced_run() -> tuple[CreatedRun, Span]:
    """Create a run in a traced request; return it and the span of its creation."""
    tracer, recorded = recording()
    with working_on(a_request(tracer)):
        created = create()
    return created, recorded[0]


def test_the_stages_of_a_traced_run_are_parts_of_its_span() -> None:
    tracer, recorded = recording()
    with working_on(a_request(tracer)) as _:
        created = create("plan_90d")
    run, request = recorded
    assert (run.name, run.parent_id) == ("run plan_90d", request.context.span_id)
    assert contexts(created) == [str(run.context)] * 3
    first = claim(created)
    finished = lifecycle.finish_stage_if_held(first, TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    (found,) = lifecycle.find_claims([finished.next.token])
    assert {first.trace_context, finished.next.trace_context, found.trace_context} == {str(run.context)}


def test_an_untraced_run_has_no_place_in_a_trace() -> None:
    created = create()
    assert set(contexts(created)) == {None}
    assert claim(created).trace_context is None


def test_a_run_that_is_refused_is_no_span() -> None:
    tracer, recorded = recording()
    new = NewRun(load_catalog().get("smoke"), "anything", brand_id=uuid4())
    request = a_request(tracer)
    with pytest.raises(InvalidInput), working_on(request):
        lifecycle.create_run(new, actor=ACTOR)
    assert recorded == [request]


def test_a_fork_is_a_part_of_the_request_that_made_it() -> None:
    parent, original = traced_run()
    tracer, recorded = recording()
    with working_on(a_request(tracer)):
        fork = lifecycle.fork_run(parent.run.id, from_stage=parent.run.stages[0].key, request=None, actor=ACTOR)
    run, request = recorded
    assert run.parent_id == request.context.span_id
    assert run.context.trace_id != original.context.trace_id
    found = read("SELECT DISTINCT trace_context FROM stages WHERE run_id = %(id)s", id=fork.id)
    assert [each["trace_context"] for each in found] == [str(run.context)]


def test_a_retry_continues_in_the_trace_of_its_request() -> None:
    created, run = traced_run()
    lifecycle.fail_attempt_if_held(claim(created), PERMANENT, jitter=0)
    lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=ACTOR)
    assert set(contexts(created)) == {str(run.context)}  # an untraced request takes no trace away
    lifecycle.fail_attempt_if_held(claim(created), PERMANENT, jitter=0)
    request = a_request(recording()[0])
    with working_on(request):
        lifecycle.retry_run_if_failed(created.run.id, from_stage=None, actor=ACTOR)
    assert set(contexts(created)) == {str(request.context)}


def test_an_attempt_whose_worker_died_is_recorded_by_its_rescuer() -> None:
    created, run = traced_run()
    untraced = create()
    lost = claim(created)
    claim(untraced)
    expire_leases()
    tracer, recorded = recording()
    Rescue(Activity(), tracer).run_once()
    (span,) = recorded
    assert (span.name, span.parent_id, span.error) == (f"stage {lost.key}", run.context.span_id, "worker_lost")
    assert span.attributes == {
        "vm.run_id": str(created.run.id),
        "vm.stage": lost.key,
        "vm.attempt": 1,
        "vm.outcome": "rescued",
    }
    assert span.start_ns < span.end_ns
