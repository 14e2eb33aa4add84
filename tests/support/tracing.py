"""A tracer that keeps what it records in a list."""

from __future__ import annotations

from vm_webapp.tracing.configuration import Tracing
from vm_webapp.tracing.sampling import sampler_of
from vm_webapp.tracing.spans import Kind, Span, Tracer


def recording(tracing: Tracing | None = None) -> tuple[Tracer, list[Span]]:
    """Return a tracer with the sampler of these settings, and the list of what it records."""
    recorded: list[Span] = []
    return Tracer(recorded.append, sampler_of(tracing or Tracing("http://collector"))), recorded


def a_request(tracer: Tracer) -> Span:
    """Begin the span of a request."""
    return tracer.begin("POST", Kind.SERVER, {})
