"""The place of a span in a trace, as W3C Trace Context writes it: the header ``traceparent``.

Source: https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

SAMPLED = 1
LONGEST = 512  # characters; version 00 has 55, and a later version may add to them
# A later version may append fields; version ff is forbidden.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """What a span's children need to know of it.

    Attributes:
        trace_id: 128 bits, not zero.
        span_id: 64 bits, not zero.
        sampled: whether the trace is recorded.
    """

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{SAMPLED if self.sampled else 0:02x}"


@lru_cache  # the stages of a run have the same one
def parse_traceparent(text: str | None) -> TraceContext | None:
    """Return what a ``traceparent`` says, or None if there is none or it is not valid."""
    found = _TRACEPARENT.fullmatch(text) if text and len(text) <= LONGEST else None
    if found is None or (text and text.startswith("00") and found[4]):
        return None
    trace_id, span_id = int(found[1], 16), int(found[2], 16)
    return TraceContext(trace_id, span_id, bool(int(found[3], 16) & SAMPLED)) if trace_id and span_id else None
