"""Spans as OpenTelemetry's protocol (OTLP) has them, in protobuf's wire format.

Written by hand: the messages of ``opentelemetry-proto`` cost seven times as much CPU (docs/decisions.md).
Source: https://github.com/open-telemetry/opentelemetry-proto, and https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct

from vm_webapp import __version__
from vm_webapp.tracing.spans import Kind, Span, Value
from vm_webapp.tracing.trace_context import SAMPLED, TraceContext

SCOPE = "vm_webapp"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
MOST_LATELY_USED = 2048  # attributes; most are the same few: workflows, stages, models
# Of a Span: start_time_unix_nano (7) and end_time_unix_nano (8).
_TIMES = Struct("<BQBQ")
_START, _END = 7 << 3 | FIXED64, 8 << 3 | FIXED64


class Encoder:
    """Encodes batches of spans.

    Args:
        resource: the attributes that all spans of this process share, such as ``service.name``.
    """

    def __init__(self, resource: Mapping[str, Value]) -> None:
        self._resource = _bytes(1, b"".join(_bytes(1, _key_value(name, value)) for name, value in resource.items()))
        self._scope = _bytes(1, _text(1, SCOPE) + _text(2, __version__))

    def encode(self, spans: Sequence[Span]) -> bytes:
        """Return an ``ExportTraceServiceRequest`` with these spans."""
        of_scope = _bytes(2, self._scope + b"".join(map(_span, spans)))
        return _bytes(1, self._resource + of_scope)


def _span(span: Span) -> bytes:
    attributes = [_attribute(name, value) for name, value in span.attributes.items()]
    if span.error is not None:
        attributes += (_attribute("error.type", span.error), _FAILED)
    if span.link is not None:
        attributes.append(_bytes(13, _ids(span.link)))
    return _bytes(
        2,
        b"".join(
            (
                _ids(span.context),
                _bytes(4, span.parent_id.to_bytes(8, "big")) if span.parent_id else b"",
                _name_and_kind(span.name, span.kind),
                # The clock may have been set back.
                _TIMES.pack(_START, span.start_ns, _END, max(span.start_ns, span.end_ns)),
                *attributes,
                _FLAGS,
            )
        ),
    )


def _ids(context: TraceContext) -> bytes:
    # trace_id (1) and span_id (2), in a Span as in a Link.
    return b"\x0a\x10%b\x12\x08%b" % (context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"))


@lru_cache
def _name_and_kind(name: str, kind: Kind) -> bytes:
    return _text(5, name) + _int(6, kind)


@lru_cache(maxsize=MOST_LATELY_USED, typed=True)
def _attribute(name: str, value: Value) -> bytes:
    return _bytes(9, _key_value(name, value))


def _key_value(name: str, value: Value) -> bytes:
    if isinstance(value, bool):
        any_value = _int(2, value)
    elif isinstance(value, int):
        any_value = _int(3, value)
    else:
        any_value = _text(1, value)
    return _text(1, name) + _bytes(2, any_value)


def _text(field: int, text: str) -> bytes:
    # A lone surrogate is no text in UTF-8, and no reason to lose the batch.
    return _bytes(field, text.encode(errors="replace"))


def _bytes(field: int, content: bytes) -> bytes:
    return b"%b%b%b" % (_SHORT[field << 3 | BYTES], _varint(len(content)), content)


def _int(field: int, number: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(number)


def _varint(number: int) -> bytes:
    if 0 <= number < 0x80:
        return _SHORT[number]
    if 0 <= number < 0x4000:
        return b"%c%c" % (number & 0x7F | 0x80, number >> 7)
    number &= 0xFFFF_FFFF_FFFF_FFFF  # a negative int64 is its two's complement
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_SHORT = [bytes([number]) for number in range(0x80)]
_FAILED = _bytes(15, _int(3, 2))  # of a Span's status: STATUS_CODE_ERROR
_FLAGS = _varint(16 << 3 | FIXED32) + SAMPLED.to_bytes(4, "little")
