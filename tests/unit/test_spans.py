"""Spans: their place in a trace, and which of them are recorded."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.tracing import recording
from vm_webapp.tracing.configuration import SamplerName, Tracing
from vm_webapp.tracing.spans import Kind, Span, Tracer, current_span, working_on

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT.removesuffix("01") + "00"


def a_tracer(sampler: SamplerName = "parentbased_always_on", ratio: float = 1.0) -> tuple[Tracer, list[Span]]:
    """Return a tracer with this sampler, and the list of what it records."""
    return recording(Tracing("http://collector", sampler=sampler, ratio=ratio))


def test_a_span_continues_the_trace_of_its_parent() -> None:
    tracer, recorded = a_tracer()
    span = tracer.begin("stage research", Kind.CONSUMER, {}, parent=PARENT)
    child = span.child("chat kimi", Kind.CLIENT, {})
    child.end()
    span.end()
    assert [span.name for span in recorded] == ["chat kimi", "stage research"]
    assert str(span.context).startswith(PARENT[:35])
    assert span.parent_id == int("b7ad6b7169203331", 16)
    assert (child.context.trace_id, child.parent_id) == (span.context.trace_id, span.context.span_id)
    assert span.start_ns <= child.start_ns <= child.end_ns <= span.end_ns


@pytest.mark.parametrize("parent", [None, "nothing that W3C knows"])
def test_a_span_without_a_parent_begins_a_trace(parent: str | None) -> None:
    tracer, _ = a_tracer()
    spans = [tracer.begin("a", Kind.SERVER, {}, parent=parent) for _ in range(50)]
    assert {span.parent_id for span in spans} == {0}
    assert len({span.context.trace_id for span in spans}) == len({span.context.span_id for span in spans}) == 50


def test_a_span_adopts_the_trace_of_a_caller_who_is_believed() -> None:
    tracer, recorded = a_tracer()
    span = tracer.begin("GET /", Kind.SERVER, {})
    unchanged = span.context
    span.adopt(None)
    assert span.context == unchanged
    believed = tracer.begin("", Kind.SERVER, {}, parent=UNSAMPLED)
    span.adopt(believed.context)
    span.end()
    assert span.context.trace_id == believed.context.trace_id
    assert recorded == []  # the caller does not record its trace


def test_a_span_is_current_for_its_block_and_ends_with_it() -> None:
    tracer, recorded = a_tracer()
    span = tracer.begin("a", Kind.INTERNAL, {})
    with working_on(span):
        assert current_span() is span
    assert current_span() is None
    assert [each.error for each in recorded] == [None]


def test_an_exception_is_the_error_of_the_span_that_it_leaves() -> None:
    tracer, recorded = a_tracer()
    with pytest.raises(KeyError), working_on(tracer.begin("a", Kind.INTERNAL, {})):
        raise KeyError
    assert [each.error for each in recorded] == ["KeyError"]


def test_a_caused_span_is_in_another_trace_and_linked_to_its_cause() -> None:
    tracer, recorded = a_tracer()
    request = tracer.begin("POST", Kind.SERVER, {})
    review = request.caused("review", {}, within=PARENT, start_ns=5)
    assert review is not None
    review.end()
    assert (review.context.trace_id, review.link, review.start_ns) != (request.context.trace_id, None, 5)
    assert review.link == request.context
    assert request.caused("review", {}, within=None) is None
    assert recorded == [review]


@pytest.mark.parametrize(
    ("sampler", "without_parent", "in_recorded", "in_unrecorded"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
    ],
)
def test_a_sampler_decides_as_opentelemetry_defines_it(
    sampler: SamplerName, without_parent: bool, in_recorded: bool, in_unrecorded: bool
) -> None:
    tracer, _ = a_tracer(sampler)
    for parent, expected in ((None, without_parent), (PARENT, in_recorded), (UNSAMPLED, in_unrecorded)):
        assert tracer.begin("a", Kind.SERVER, {}, parent=parent).context.sampled is expected


def test_a_ratio_records_its_share_and_every_process_decides_alike() -> None:
    tracer, _ = a_tracer("parentbased_traceidratio", 0.25)
    other, _ = a_tracer("traceidratio", 0.25)
    seen: Counter[bool] = Counter()
    for _ in range(2_000):
        context = tracer.begin("a", Kind.SERVER, {}).context
        seen[context.sampled] += 1
        assert other.begin("b", Kind.SERVER, {}, parent=str(context)).context.sampled is context.sampled
    assert 0.2 < seen[True] / 2_000 < 0.3
