"""The price table: what it takes, what it refuses, and what a call costs by it."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from vm_webapp.prices import Price, PriceTable, parse_prices

KIMI = '{"prompt": 0.60, "completion": 2.50}'


def test_a_table_has_the_price_of_each_model_it_names() -> None:
    table = parse_prices(
        '{"currency": "USD", "models": {"kimi": {"prompt": 0.1, "completion": 2, "cached_prompt": 0}}}'
    )
    assert table == PriceTable("USD", {"kimi": Price(Decimal("0.1"), Decimal(2), Decimal(0))})
    assert table.price_of("kimi") == Price(Decimal("0.1"), Decimal(2), Decimal(0))
    assert table.price_of("another") is None


def test_a_star_is_the_price_of_any_other_model() -> None:
    table = parse_prices(f'{{"currency": "BRL", "models": {{"*": {KIMI}, "free": {{"prompt": 0, "completion": 0}}}}}}')
    assert table.price_of("another") == Price(Decimal("0.60"), Decimal("2.50"), Decimal("0.60"))
    assert table.price_of("free") == Price(Decimal(0), Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("prompt", "completion", "cached", "money"),
    [
        (1_000_000, 0, 0, "0.600000000"),
        (1_000_000, 2_000_000, 0, "5.600000000"),
        (1_000_000, 0, 400_000, "0.400000000"),
        (1_000, 0, 5_000, "0.000100000"),  # a server that counts more cached tokens than tokens
        (1, 1, 0, "0.000003100"),
        (2**31 - 1, 2**31 - 1, 0, "6657.199305700"),
        (0, 0, 0, "0.000000000"),
    ],
)
def test_a_call_costs_its_tokens_at_their_prices(prompt: int, completion: int, cached: int, money: str) -> None:
    price = Price(Decimal("0.60"), Decimal("2.50"), Decimal("0.10"))
    assert f"{price.money_for(prompt, completion, cached_tokens=cached):f}" == money


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("nonsense", "must be JSON"),
        ("{", "must be JSON"),
        ('{"currency": "USD", "models": {"m": {"prompt": NaN, "completion": 1}}}', "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("1" * 10_000, "must be JSON"),
        ("[]", 'must be an object with "currency" and "models"'),
        ('{"currency": "USD"}', 'must be an object with "currency" and "models"'),
        (f'{{"currency": "USD", "models": {{"m": {KIMI}}}, "x": 1}}', 'must be an object with "currency" and "models"'),
        (f'{{"currency": "$", "models": {{"m": {KIMI}}}}}', 'must have an ISO 4217 code as "currency", such as "USD"'),
        (f'{{"currency": null, "models": {{"m": {KIMI}}}}}', 'must have an ISO 4217 code as "currency", such as "USD"'),
        ('{"currency": "USD", "models": {}}', 'must have an object with at least one model as "models"'),
        ('{"currency": "USD", "models": []}', 'must have an object with at least one model as "models"'),
        (f'{{"currency": "USD", "models": {{"m": {KIMI}, "m": {KIMI}}}}}', "has a name twice in one object"),
        (
            f'{{"currency": "USD", "models": {{" ": {KIMI}}}}}',
            "must name each model in 1 to 200 characters, without spaces around it",
        ),
    ],
)
def test_a_table_that_does_not_parse_is_refused_with_the_rule(text: str, refusal: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(refusal)}$"):
        parse_prices(text)


@pytest.mark.parametrize("price", ["{}", "[]", "1", '{"prompt": 1}', '{"prompt": 1, "completion": 1, "output": 1}'])
def test_a_price_has_both_kinds_of_tokens_and_nothing_unknown(price: str) -> None:
    with pytest.raises(ValueError, match=r'^must have "prompt" and "completion" for each model, .* \(model 2\)$'):
        parse_prices(f'{{"currency": "USD", "models": {{"a": {KIMI}, "s3cret": {price}}}}}')


@pytest.mark.parametrize("amount", ["-0.01", "1000001", '"1"', "true", "null", "1e400", "[1]"])
def test_a_price_is_a_number_that_can_be_paid(amount: str) -> None:
    with pytest.raises(ValueError, match=r'^must have a number from 0 to 1000000 as "completion" \(model 1\)$'):
        parse_prices(f'{{"currency": "USD", "models": {{"m": {{"prompt": 1, "completion": {amount}}}}}}}')
