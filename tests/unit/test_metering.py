"""What a call has used, however it ends: the server's counts, else an estimate that is marked as one."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.llm.assignments import an_assignment
from vm_webapp.execution.metering import CallMeter
from vm_webapp.llm.base import Completion, PartialCompletion
from vm_webapp.prices import Price, PriceTable
from vm_webapp.usage.calls import CallUsage

PRICES = PriceTable("USD", {"kimi": Price(Decimal(1), Decimal(10), Decimal("0.1"))})
PROMPT = an_assignment(system="x" * 40, user="y" * 41)  # 81 bytes, so about 21 tokens


def metered(ended: Completion | PartialCompletion | None, *pieces: str, model: str | None = "kimi") -> CallUsage | None:
    """Return the usage of a call that sent these pieces and ended like this."""
    meter = CallMeter(PRICES)
    meter.begin(model, PROMPT)
    for piece in pieces:
        meter.add(piece)
    meter.end(ended)
    return meter.usage()


def test_what_the_server_counted_is_taken_and_priced() -> None:
    ended = Completion("# Text", "kimi", "kimi-2026-11", 1_000, 200, cached_tokens=600)
    assert metered(ended, "# Text") == CallUsage("kimi", 1_000, 200, Decimal("0.002460000"), estimated=False)


def test_a_server_that_counts_nothing_is_estimated() -> None:
    assert metered(Completion("é" * 20, "kimi"), "é" * 20) == CallUsage("kimi", 21, 10, Decimal("0.000121000"), True)


@pytest.mark.parametrize("zero", [0, None])
def test_a_count_of_zero_is_no_count(zero: int | None) -> None:
    ended = Completion("x" * 400, "kimi", None, prompt_tokens=50, completion_tokens=zero)
    assert metered(ended, "x" * 400) == CallUsage("kimi", 50, 100, Decimal("0.001050000"), estimated=True)


def test_reasoning_counts_a_token_a_piece() -> None:
    usage = metered(None, *[""] * 30, "Week 1")
    assert usage == CallUsage("kimi", 21, 31, Decimal("0.000331000"), estimated=True)


def test_what_a_failed_call_had_sent_counts() -> None:
    usage = metered(PartialCompletion("x" * 8, prompt_tokens=500), "x" * 8)
    assert usage == CallUsage("kimi", 500, 2, Decimal("0.000520000"), estimated=True)


def test_a_call_that_was_refused_counts_nothing() -> None:
    assert metered(PartialCompletion("")) is None
    assert metered(None) is None
    assert CallMeter(PRICES).usage() is None  # the attempt ended before its call


def test_where_no_model_is_called_nothing_is_counted() -> None:
    assert metered(Completion("# Text", "offline"), "# Text", model=None) is None


def test_a_model_without_a_price_costs_an_unknown_sum() -> None:
    ended = Completion("# Text", "kimi", None, 1_000, 200)
    assert metered(ended, model="another") == CallUsage("another", 1_000, 200, None, estimated=False)
