"""A fake collector: it takes traces by OTLP over HTTP, decodes them with the protocol's own classes and keeps them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as EncodedSpan

from tests.fakes.http_fake import HttpFake

PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class SpanSeen:
    """A span as a collector sees it.

    Attributes:
        parent_id: empty for the first span of a trace.
        links: the ids of the spans that it is linked to.
        resource: the attributes of the process that recorded it.
    """

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    failed: bool
    links: tuple[str, ...]
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


class FakeCollector(HttpFake):
    """The collector, on threads of its own.

    Attributes:
        spans: what it took, in the order in which it came.
        headers: of each request, with names in lower case.
        status: what it responds.
        content_type: of its responses.
        hangs: it takes connections and responds nothing until it is closed.
    """

    def __init__(self, port: int = 0) -> None:
        self.spans: list[SpanSeen] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.content_type = "application/x-protobuf"
        self.hangs = False
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.hangs:
                    collector.closed.wait()
                    return
                if self.path == PATH and collector.status == 200:
                    zipped = self.headers.get("Content-Encoding") == "gzip"
                    collector.spans += decode(gzip.decompress(body) if zipped else body)
                self.send_response(collector.status if self.path == PATH else 404)
                self.send_header("Content-Type", collector.content_type)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(Handler, port)
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[SpanSeen]:
        """Return the spans of a name, by the time they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)


def decode(body: bytes) -> list[SpanSeen]:
    """Return the spans in an ``ExportTraceServiceRequest``."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, _values(of_process.resource.attributes))
        for of_process in request.resource_spans
        for scoped in of_process.scope_spans
        for span in scoped.spans
    ]


def _span(span: EncodedSpan, resource: Mapping[str, Any]) -> SpanSeen:
    return SpanSeen(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == 2,
        links=tuple(link.span_id.hex() for link in span.links),
        attributes=_values(span.attributes),
        resource=resource,
    )


def _values(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
