"""The fields of forms that say what a run may use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from api.schemas.budgets import MOST_MONEY, MOST_TOKENS, WRITTEN
from vm_webapp.errors import InvalidInput
from vm_webapp.runs.budget import Budget, check_priced
from vm_webapp.settings import Settings

TOKENS, MONEY = "budget_tokens", "budget_money"
WHOLE = re.compile(r"[0-9]+|[0-9]{1,3}(,[0-9]{3})+")  # with commas too, since pages write numbers so


def has_prices(settings: Settings) -> bool:
    """Return whether a budget may be of money."""
    return settings.model_prices is not None and settings.model_prices.price_of(settings.kimi_model) is not None


def read_budget(values: Mapping[str, str], settings: Settings) -> Budget | None:
    """Return the budget that a form gives, None if its fields are empty.

    Raises:
        InvalidInput: a field is wrong; the pointer says which.
    """
    tokens, money = (values.get(name, "").strip() for name in (TOKENS, MONEY))
    if not tokens and not money:
        return None
    return Budget(_tokens(tokens) if tokens else None, _money(money, settings) if money else None)


def _tokens(text: str) -> int:
    if not WHOLE.fullmatch(text):
        raise InvalidInput("Write a whole number, such as 20000.", pointer=f"/{TOKENS}")
    digits = text.replace(",", "")
    # Compared by their length first: Python refuses to read a number of thousands of digits.
    if len(digits) > len(str(MOST_TOKENS)) or not 1 <= int(digits) <= MOST_TOKENS:
        raise InvalidInput(f"Write a number from 1 to {MOST_TOKENS:,}.", pointer=f"/{TOKENS}")
    return int(digits)


def _money(text: str, settings: Settings) -> Decimal:
    if not WRITTEN.fullmatch(text):
        raise InvalidInput("Write a number with a point, such as 1.50.", pointer=f"/{MONEY}")
    if not 0 < Decimal(text) <= MOST_MONEY:
        raise InvalidInput(f"Write a number over 0, up to {MOST_MONEY:,}.", pointer=f"/{MONEY}")
    try:
        check_priced(settings.model_prices, settings.kimi_model)
    except InvalidInput as error:
        raise InvalidInput(str(error), pointer=f"/{MONEY}") from None
    return Decimal(text)
