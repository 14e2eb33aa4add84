"""Spans as OpenTelemetry's protocol encodes them (OTLP).

Not by OpenTelemetry's SDK, whose spans cost more than twice as much CPU (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as EncodedSpan

from vm_webapp import __version__
from vm_webapp.tracing.spans import Span, Value
from vm_webapp.tracing.trace_context import SAMPLED

SCOPE = "vm_webapp"


class Encoder:
    """Encodes batches of spans.

    Args:
        resource: the attributes that all spans of this process share, such as ``service.name``.
    """

    def __init__(self, resource: Mapping[str, Value]) -> None:
        self._resource = Resource(attributes=_attributes(resource.items()))
        self._scope = InstrumentationScope(name=SCOPE, version=__version__)

    def encode(self, spans: Sequence[Span]) -> bytes:
        """Return the body of a request with these spans."""
        scoped = ScopeSpans(scope=self._scope, spans=[_span(span) for span in spans])
        of_process = ResourceSpans(resource=self._resource, scope_spans=[scoped])
        body: bytes = ExportTraceServiceRequest(resource_spans=[of_process]).SerializeToString()
        return body


def _span(span: Span) -> EncodedSpan:
    context = span.context
    encoded = EncodedSpan(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        parent_span_id=span.parent_id.to_bytes(8, "big") if span.parent_id else b"",
        flags=SAMPLED,
        name=span.name,
        kind=EncodedSpan.SpanKind.ValueType(span.kind),
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=max(span.start_ns, span.end_ns),  # the clock may have been set back
        attributes=_attributes(span.attributes.items()),
    )
    if span.error is not None:
        encoded.attributes.append(_attribute("error.type", span.error))
        encoded.status.code = Status.STATUS_CODE_ERROR
    if span.link is not None:
        encoded.links.add(trace_id=span.link.trace_id.to_bytes(16, "big"), span_id=span.link.span_id.to_bytes(8, "big"))
    return encoded


def _attributes(pairs: Iterable[tuple[str, Value]]) -> list[KeyValue]:
    return [_attribute(name, value) for name, value in pairs]


@lru_cache(maxsize=2048, typed=True)
def _attribute(name: str, value: Value) -> KeyValue:
    # Most values are the same few: workflows, stages, models. A message that is put into another one is copied.
    if isinstance(value, bool):
        return KeyValue(key=name, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=name, value=AnyValue(int_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=value))
