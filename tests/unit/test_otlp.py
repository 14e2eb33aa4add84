"""Spans in protobuf's wire format, as the protocol's own classes decode them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from vm_webapp import __version__
from vm_webapp.tracing.otlp import Encoder
from vm_webapp.tracing.spans import Kind, Span, Tracer, Value
from vm_webapp.tracing.trace_context import TraceContext

TRACER = Tracer(lambda span: None, lambda parent, trace_id: True)
CONTEXTS = st.builds(TraceContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.just(value=True))
VALUES = st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans()


def decoded(*spans: Span, resource: Mapping[str, Value] | None = None) -> ExportTraceServiceRequest:
    found = ExportTraceServiceRequest()
    found.ParseFromString(Encoder(resource or {}).encode(spans))
    return found


def values(attributes: Any) -> dict[str, Value]:
    return {one.key: value_of(one.value) for one in attributes}


def value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind in ("string_value", "int_value", "bool_value")
    return getattr(value, kind)


@given(
    name=st.text(),
    kind=st.sampled_from(Kind),
    parent=st.none() | CONTEXTS,
    link=st.none() | CONTEXTS,
    attributes=st.dictionaries(st.text(), VALUES),
    error=st.none() | st.text(),
    times=st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)),
)
def test_a_span_is_decoded_as_it_was(
    name: str,
    kind: Kind,
    parent: TraceContext | None,
    link: TraceContext | None,
    attributes: dict[str, Value],
    error: str | None,
    times: tuple[int, int],
) -> None:
    span = Span(TRACER, name, kind, parent, attributes, times[0], link)
    span.end_ns, span.error = times[1], error
    (of_process,) = decoded(span).resource_spans
    (of_scope,) = of_process.scope_spans
    (found,) = of_scope.spans
    assert (found.name, found.kind) == (name, kind)
    assert int.from_bytes(found.trace_id, "big") == span.context.trace_id
    assert int.from_bytes(found.span_id, "big") == span.context.span_id
    assert (len(found.trace_id), len(found.span_id), found.flags) == (16, 8, 1)
    assert found.parent_span_id == (parent.span_id.to_bytes(8, "big") if parent else b"")
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (times[0], max(times))
    assert values(found.attributes) == attributes | ({} if error is None else {"error.type": error})
    assert found.status.code == (Status.STATUS_CODE_UNSET if error is None else Status.STATUS_CODE_ERROR)
    linked = [] if link is None else [(link.trace_id.to_bytes(16, "big"), link.span_id.to_bytes(8, "big"))]
    assert [(one.trace_id, one.span_id) for one in found.links] == linked


def test_a_request_names_the_process_and_the_product() -> None:
    spans = [TRACER.begin(str(number), Kind.INTERNAL, {}) for number in range(600)]
    resource: dict[str, Value] = {"service.name": "vm-webapp-api", "vm.port": 8000}
    (of_process,) = decoded(*spans, resource=resource).resource_spans
    assert values(of_process.resource.attributes) == resource
    (of_scope,) = of_process.scope_spans
    assert (of_scope.scope.name, of_scope.scope.version) == ("vm_webapp", __version__)
    assert [span.name for span in of_scope.spans] == [str(number) for number in range(600)]


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb"])
def test_what_is_no_text_costs_no_batch(value: str) -> None:
    (span,) = decoded(TRACER.begin("a", Kind.INTERNAL, {"given": value})).resource_spans[0].scope_spans[0].spans
    assert "?" in str(values(span.attributes)["given"])
