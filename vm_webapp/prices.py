"""What calls of a model cost: the price table in the settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

MILLION = 1_000_000
HIGHEST_PRICE = 1_000_000  # a million tokens; what costs more is a slip of the zeros
MONEY_UNIT = Decimal("0.000000001")  # as the columns of money keep it
ANY_MODEL = "*"
CURRENCY = re.compile("[A-Z]{3}")
LONGEST_MODEL_NAME = 200


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of a model cost.

    Attributes:
        prompt: of the prompt.
        completion: of the completion, reasoning included.
        cached_prompt: of the part of the prompt that the server had in its cache.
    """

    prompt: Decimal
    completion: Decimal
    cached_prompt: Decimal

    def money_for(self, prompt_tokens: int, completion_tokens: int, *, cached_tokens: int = 0) -> Decimal:
        """Return what a call costs, rounded to a billionth.

        Args:
            prompt_tokens: tokens of the prompt.
            completion_tokens: tokens of the completion.
            cached_tokens: how many tokens of the prompt were in the server's cache.
        """
        cached = min(cached_tokens, prompt_tokens)
        millionths = (
            (prompt_tokens - cached) * self.prompt + cached * self.cached_prompt + completion_tokens * self.completion
        )
        return (millionths / MILLION).quantize(MONEY_UNIT)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """The prices of models, in one currency.

    Attributes:
        currency: its ISO 4217 code, such as ``USD``.
        models: prices by the name of the model, as ``KIMI_MODEL`` has it; ``*`` is any other model.
    """

    currency: str
    models: Mapping[str, Price]

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model, None if the table has none for it."""
        return self.models.get(model) or self.models.get(ANY_MODEL)


def money_text(money: Decimal) -> str:
    """Return a sum of money without zeros at its end and without an exponent."""
    return f"{money.normalize():f}"


def parse_prices(text: str) -> PriceTable:
    """Return the price table of a JSON text.

    Args:
        text: such as ``{"currency": "USD", "models": {"kimi-for-coding": {"prompt": 0.60, "completion": 2.50}}}``,
            with ``cached_prompt`` beside the two where a server's cache is cheaper. Prices are per million tokens.

    Raises:
        ValueError: it is no price table; the message follows the name of a variable and shows no value of the text.
    """
    # Decimal from the text itself: a float would turn 0.1 into a price that nobody has written.
    try:
        table = json.loads(text, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object)
    except _Repeated:
        raise ValueError("has a name twice in one object") from None
    except (ValueError, ArithmeticError, RecursionError):
        raise ValueError("must be JSON") from None
    if not isinstance(table, dict) or table.keys() != {"currency", "models"}:
        raise ValueError('must be an object with "currency" and "models"')
    currency, models = table["currency"], table["models"]
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        raise ValueError('must have an ISO 4217 code as "currency", such as "USD"')
    if not isinstance(models, dict) or not models:
        raise ValueError('must have an object with at least one model as "models"')
    return PriceTable(
        currency, {_name(name): _price(price, number) for number, (name, price) in enumerate(models.items(), start=1)}
    )


class _Repeated(ValueError):
    """A name stands twice in one object, of which JSON parsers keep the last."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Repeated
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity, which are no JSON


def _name(name: str) -> str:
    if not name.strip() or name != name.strip() or len(name) > LONGEST_MODEL_NAME:
        raise ValueError(f"must name each model in 1 to {LONGEST_MODEL_NAME} characters, without spaces around it")
    return name


def _price(price: object, number: int) -> Price:
    required = {"prompt", "completion"}
    if not isinstance(price, dict) or not required <= price.keys() <= {*required, "cached_prompt"}:
        raise ValueError(
            f'must have "prompt" and "completion" for each model, and at most "cached_prompt" beside (model {number})'
        )
    amounts = {key: _amount(value, key, number) for key, value in price.items()}
    return Price(amounts["prompt"], amounts["completion"], amounts.get("cached_prompt", amounts["prompt"]))


def _amount(value: object, key: str, number: int) -> Decimal:
    # bool is an int in Python, and true is no price.
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 <= value <= HIGHEST_PRICE:
        return Decimal(value)
    raise ValueError(f'must have a number from 0 to {HIGHEST_PRICE} as "{key}" (model {number})')
