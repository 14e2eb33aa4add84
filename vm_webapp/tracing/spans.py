"""Spans: what happened, from when to when, and as a part of what.

A process that records traces has a ``Tracer``; otherwise there is none, ``current_span`` returns None, and that is all
that a trace costs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum

from vm_webapp.tracing.trace_context import TraceContext, parse_traceparent

Value = str | int | bool
# Whether to record a span with this parent (None for the first span of a trace) and this trace id.
Sampler = Callable[[TraceContext | None, int], bool]


class Kind(IntEnum):
    """What a span is to the one that called it, with OTLP's numbers."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Span:
    """One piece of work.

    Attributes:
        name: of low cardinality: the stage's key, and not the run's id.
        context: its place in its trace.
        parent_id: the span that it is a part of, 0 if it is the first of its trace.
        attributes: facts by their names in OpenTelemetry's semantic conventions, or else under ``vm.``.
        error: what kind of error it ended with, None for none.
        link: a span that caused it without being its parent, or None.
        start_ns, end_ns: nanoseconds since 1970.
    """

    __slots__ = ("_tracer", "attributes", "context", "end_ns", "error", "kind", "link", "name", "parent_id", "start_ns")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: Kind,
        parent: TraceContext | None,
        attributes: dict[str, Value],
        start_ns: int | None = None,
        link: TraceContext | None = None,
    ) -> None:
        self._tracer = tracer
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.error: str | None = None
        self.link = link
        self.start_ns = time.time_ns() if start_ns is None else start_ns
        self.end_ns = 0
        self._join(parent)

    @property
    def trace_id(self) -> str:
        """The trace's id as backends show it: 32 hexadecimal digits."""
        return f"{self.context.trace_id:032x}"

    def adopt(self, parent: TraceContext | None) -> None:
        """Continue the trace of a caller who turned out to be believed; before the span has children."""
        if parent is not None:
            self._join(parent)

    def child(self, name: str, kind: Kind, attributes: dict[str, Value]) -> Span:
        """Begin a span that is a part of this one."""
        return Span(self._tracer, name, kind, self.context, attributes)

    def caused(
        self, name: str, attributes: dict[str, Value], *, within: str | None, start_ns: int | None = None
    ) -> Span | None:
        """Begin a span in another trace, which this one caused; None if ``within`` is not the place in a trace.

        Args:
            name: the span's name.
            attributes: its attributes.
            within: the ``traceparent`` of its parent.
            start_ns: when it began, None for now.
        """
        parent = parse_traceparent(within)
        if parent is None:
            return None
        return Span(self._tracer, name, Kind.INTERNAL, parent, attributes, start_ns, link=self.context)

    def end(self) -> None:
        """Record the span if its trace is sampled; the span is not changed afterwards."""
        self.end_ns = time.time_ns()
        if self.context.sampled:
            self._tracer.record(self)

    def _join(self, parent: TraceContext | None) -> None:
        trace_id = parent.trace_id if parent else random.getrandbits(128) or 1
        sampled = self._tracer.samples(parent, trace_id)
        self.context = TraceContext(trace_id, random.getrandbits(64) or 1, sampled)
        self.parent_id = parent.span_id if parent else 0


class Tracer:
    """Makes the spans of a process.

    Args:
        record: called with each span that has ended and is sampled, on the thread that ended it; it must not block.
        samples: decides what is recorded.
    """

    def __init__(self, record: Callable[[Span], object], samples: Sampler) -> None:
        self.record = record
        self.samples = samples

    def begin(
        self,
        name: str,
        kind: Kind,
        attributes: dict[str, Value],
        *,
        parent: str | None = None,
        start_ns: int | None = None,
    ) -> Span:
        """Begin a span.

        Args:
            name: the span's name.
            kind: what it is to its caller.
            attributes: its first attributes; more may be added until it ends.
            parent: the ``traceparent`` of its parent; without a valid one it begins a trace.
            start_ns: when it began, None for now.
        """
        return Span(self, name, kind, parse_traceparent(parent), attributes, start_ns)


_current: ContextVar[Span | None] = ContextVar("current_span", default=None)


def current_span() -> Span | None:
    """Return the span that this thread or task works on, None if there is none or nothing is traced."""
    return _current.get()


class working_on:  # noqa: N801 - used like a function; a generator as context manager costs twice as much
    """Make a span the current one for the block, and end it after the block; an exception is its error."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = _current.set(self._span)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        _current.reset(self._token)
        if kind is not None:
            self._span.error = self._span.error or kind.__name__
        self._span.end()


def make_current(span: Span) -> None:
    """Make a span the current one for the rest of this task."""
    _current.set(span)
