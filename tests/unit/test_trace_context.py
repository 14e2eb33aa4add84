"""The header ``traceparent``: what is taken for one, and how a span's place in a trace is written."""

from __future__ import annotations

import pytest

from vm_webapp.tracing.trace_context import TraceContext, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (VALID, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),  # bits that are not ours to read
        (f"01-{TRACE}-{SPAN}-01-of-a-later-version", True),
    ],
)
def test_a_valid_header_is_read(text: str, sampled: bool) -> None:
    assert parse_traceparent(text) == TraceContext(int(TRACE, 16), int(SPAN, 16), sampled)


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "00", VALID.upper(), f" {VALID}", f"{VALID}\n", f"{VALID}-more", f"ff-{TRACE}-{SPAN}-01"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN}-1"),
        f"01-{TRACE}-{SPAN}-01-{'x' * 1000}",
    ],
)
def test_another_text_is_none(text: str | None) -> None:
    assert parse_traceparent(text) is None


def test_a_context_is_written_as_it_is_read() -> None:
    parsed = parse_traceparent(VALID)
    assert str(parsed) == VALID
    assert str(TraceContext(1, 2, False)) == f"00-{1:032x}-{2:016x}-00"
