"""What one model call has used, as the transaction that ends its attempt writes it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class CallUsage:
    """What one model call has used.

    Attributes:
        model: the model that was asked for, by whose name the price table and the reports know it.
        prompt_tokens: tokens that it read.
        completion_tokens: tokens that it wrote, reasoning included.
        money: what it costs, in the currency of the price table; None for a model without a price.
        estimated: whether the server did not count some of the tokens.
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    money: Decimal | None
    estimated: bool


def values_of(usage: CallUsage | None) -> dict[str, Any]:
    """Return the values of a statement that writes a call's usage; those of no call where there is none."""
    if usage is None:
        return {"used_model": None, "used_prompt": 0, "used_completion": 0, "used_money": None, "used_estimated": False}
    return {
        "used_model": usage.model,
        "used_prompt": usage.prompt_tokens,
        "used_completion": usage.completion_tokens,
        "used_money": usage.money,
        "used_estimated": usage.estimated,
    }
