"""Budgets of runs, as people give them. What they hold back is decided in ``vm_webapp.runs.admission``."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from vm_webapp.errors import InvalidInput
from vm_webapp.prices import PriceTable, money_text


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent. It is given whole: what it leaves out is not limited.

    Attributes:
        tokens: prompt and completion tokens together; None for any number.
        money: in the currency of the price table; None for any sum.

    Raises:
        ValueError: it limits nothing, or is not more than 0.
    """

    tokens: int | None = None
    money: Decimal | None = None

    def __post_init__(self) -> None:
        if self.tokens is None and self.money is None:
            raise ValueError("a budget limits tokens or money")
        if (self.tokens is not None and self.tokens <= 0) or (self.money is not None and self.money <= 0):
            raise ValueError("a budget is more than 0")

    def facts(self) -> dict[str, int | str]:
        """Return its parts as events and entries of the audit trail hold them."""
        tokens = {} if self.tokens is None else {"budget_tokens": self.tokens}
        return tokens | ({} if self.money is None else {"budget_money": money_text(self.money)})


def budget_of(tokens: int | None, money: Decimal | None) -> Budget | None:
    """Return the budget in these two columns, None if it limits nothing."""
    return None if tokens is None and money is None else Budget(tokens, money)


def check_priced(prices: PriceTable | None, model: str) -> None:
    """Check that money can be limited for calls of this model.

    Raises:
        InvalidInput: the price table has no price for it, or there is no table.
    """
    if prices is None or prices.price_of(model) is None:
        raise InvalidInput(
            f"the model {model} has no price in VM_MODEL_PRICES, so its calls cannot be limited by money"
        )


def how_spent(budget: Budget, tokens: int, money: Decimal | None) -> str:
    """Return which parts of a budget are spent, in words; empty where none is.

    Args:
        budget: what may be spent.
        tokens: what calls have used.
        money: what they have cost, None if that is not known.
    """
    parts = []
    if budget.tokens is not None and tokens >= budget.tokens:
        parts.append(f"{tokens:,} of {budget.tokens:,} tokens")
    if budget.money is not None and money is not None and money >= budget.money:
        parts.append(f"{money_text(money)} of {money_text(budget.money)} in money")
    return " and ".join(parts)
