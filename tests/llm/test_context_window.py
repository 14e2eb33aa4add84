"""A call is held against the model's context before it is sent."""

from __future__ import annotations

import pytest

from tests.fakes.behaviours import plain
from tests.fakes.model_server import ModelServer
from tests.llm.assignments import an_assignment
from tests.llm.providers import KEY
from vm_webapp.llm.context_window import estimated_tokens, fitting_budget
from vm_webapp.llm.errors import LLMContextExceeded
from vm_webapp.llm.kimi import KimiProvider

SENTENCE = "Our clinics want fewer missed appointments, better communication, and a view of the whole business. "


def of_tokens(count: int) -> str:
    """Return a text that is estimated at so many tokens."""
    return "abcdefg" * count


@pytest.mark.parametrize(
    ("text", "real"),
    [(SENTENCE * 100, 1_900), ("word " * 80_000, 80_000), ("我们的客户希望减少爽约。" * 100, 700), ("🦷" * 90, 90)],
    ids=["prose", "words", "Chinese", "emoji"],
)
def test_the_estimate_is_below_what_a_tokenizer_counts(text: str, real: int) -> None:
    assert 0 < estimated_tokens(an_assignment(system="", user=text)) <= real


@pytest.mark.parametrize(
    ("prompt", "budget", "fitted"),
    [
        (1_000, 4_000, 4_000),
        (4_192, 4_000, 4_000),
        (4_193, 4_000, 3_999),
        (7_168, 4_000, 1_024),
        (7_169, 4_000, None),
        (7_169, 1_000, 1_000),
        (7_193, 1_000, None),
        (9_000, 4_000, None),
    ],
)
def test_the_budget_is_lowered_to_what_is_left_and_to_no_less_than_a_thousand(
    prompt: int, budget: int, fitted: int | None
) -> None:
    assignment = an_assignment(system="", user=of_tokens(prompt))
    if fitted is not None:
        assert fitting_budget(assignment, budget, 8_192) == fitted
        return
    with pytest.raises(LLMContextExceeded) as refused:
        fitting_budget(assignment, budget, 8_192)
    assert refused.value.permanent
    assert str(prompt) in str(refused.value)
    assert "KIMI_CONTEXT_TOKENS=8192" in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_a_lowered_budget_is_sent_and_holds_for_that_call_alone(server: ModelServer) -> None:
    provider = KimiProvider(api_key=KEY, base_url=server.base_url, model="m", context_tokens=8_192)
    for prompt in (of_tokens(6_000), "short"):
        await provider.complete(an_assignment(system="", user=prompt, max_tokens=4_000))
    assert [received.body["max_tokens"] for received in server.requests] == [2_192, 4_000]
    await provider.aclose()


async def test_a_budget_that_the_server_lowers_as_well_is_the_lower_one(server: ModelServer) -> None:
    provider = KimiProvider(api_key=KEY, base_url=server.base_url, model="m", context_tokens=8_192)
    body = b'{"error":{"message":"Invalid max_tokens value, the valid range of max_tokens is [1, 2000]"}}'
    server.enqueue(plain(400, body, "application/json"))
    await provider.complete(an_assignment(system="", user=of_tokens(5_000), max_tokens=4_000))
    assert [received.body["max_tokens"] for received in server.requests] == [3_192, 2_000]
    await provider.aclose()
