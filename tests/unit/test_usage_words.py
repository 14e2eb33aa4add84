"""What calls have used, and what is left of a budget, in words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from api.ui.usage_words import left, money, report, used
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.queries import Spending
from vm_webapp.runs.records import Spent, Usage
from vm_webapp.usage.reports import UsageRow


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0", "0.00"), ("1234.5", "1,234.50"), ("0.126", "0.13"), ("0.012", "0.012"), ("0.000123456", "0.00012")],
)
def test_a_sum_of_money_shows_two_digits_at_least_that_are_not_zero(amount: str, shown: str) -> None:
    assert money(Decimal(amount), "EUR") == f"{shown} EUR"
    assert money(Decimal(amount), None) == shown


@pytest.mark.parametrize(
    ("usage", "cost", "currency", "words"),
    [
        (Usage(0, 0), None, "EUR", ""),
        (Usage(1200, 300), None, "EUR", "1,200 tokens read, 300 written"),
        (Usage(1200, 300), Spent(Decimal("0.5"), estimated=False), None, "1,200 tokens read, 300 written"),
        (Usage(0, 0), Spent(Decimal("0.5"), estimated=True), "EUR", "0.50 EUR, estimated"),
        (Usage(0, 0, uncounted=True), None, None, "tokens that the model's server did not count"),
        (
            Usage(1200, 300, uncounted=True),
            None,
            None,
            "1,200 tokens read, 300 written, and tokens that the model's server did not count",
        ),
        (
            Usage(1200, 300),
            Spent(Decimal("0.5"), estimated=False),
            "EUR",
            "1,200 tokens read, 300 written · 0.50 EUR",
        ),
    ],
)
def test_what_was_used_is_tokens_and_money_where_there_is_a_price(
    usage: Usage, cost: Spent | None, currency: str | None, words: str
) -> None:
    assert used(usage, cost, currency) == words


@pytest.mark.parametrize(
    ("budget", "currency", "words"),
    [
        (Budget(5000), None, "3,800 of 5,000 tokens left"),
        (Budget(1000), None, "0 of 1,000 tokens left"),
        (Budget(5000, Decimal(2)), "EUR", "3,800 of 5,000 tokens left · 1.50 of 2.00 EUR left"),
        (Budget(money=Decimal("0.25")), None, "0.00 of 0.25 in money left"),
    ],
)
def test_what_is_left_of_a_budget_is_never_less_than_nothing(budget: Budget, currency: str | None, words: str) -> None:
    assert left(budget, Spending(1200, Decimal("0.5"), estimated=False), currency) == words
    assert left(budget, Spending(1200, Decimal("0.5"), estimated=True), currency).startswith(f"{words} · estimated")


def row(**changed: Any) -> UsageRow:
    """Return what three calls have used together."""
    counts = {"calls": 3, "estimated_calls": 0, "unpriced_calls": 0, "prompt_tokens": 1200, "completion_tokens": 300}
    return UsageRow(None, None, None, None, None, **counts | {"money": Decimal("1.5")} | changed)


@pytest.mark.parametrize(
    ("usage", "currency", "words"),
    [
        (row(), "EUR", "3 calls of the model · 1,200 tokens read, 300 written · 1.50 EUR"),
        (row(calls=1), None, "1 call of the model · 1,200 tokens read, 300 written"),
        (row(unpriced_calls=3), "EUR", "3 calls of the model · 1,200 tokens read, 300 written"),
        (
            row(unpriced_calls=1, estimated_calls=2),
            "EUR",
            "3 calls of the model · 1,200 tokens read, 300 written · 1.50 EUR · without 1 of models that have no price"
            " · 2 of them estimated, since the model's server did not count all of it",
        ),
        (
            row(estimated_calls=3),
            None,
            "3 calls of the model · 1,200 tokens read, 300 written"
            " · all estimated, since the model's server did not count all of it",
        ),
    ],
)
def test_a_month_says_what_it_leaves_out_and_what_is_estimated(
    usage: UsageRow, currency: str | None, words: str
) -> None:
    assert report(usage, currency) == words
