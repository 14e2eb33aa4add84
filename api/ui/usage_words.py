"""The words of pages for what calls of the model have used, and for what they may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from vm_webapp.runs.budget import Budget
from vm_webapp.runs.day_budgets import DayBudget
from vm_webapp.runs.queries import Spending
from vm_webapp.runs.records import Spent, Usage
from vm_webapp.usage.reports import UsageRow

LEAST_DIGITS = 2
UNCOUNTED = "tokens that the model's server did not count"
ESTIMATED = "estimated, since the model's server did not count all of it"


def tokens(usage: Usage) -> str:
    """Return how many tokens were read and written, and whether that is all; empty for none."""
    counted = _tokens(usage.prompt_tokens, usage.completion_tokens)
    if not usage.uncounted:
        return counted
    return f"{counted}, and {UNCOUNTED}" if counted else UNCOUNTED


def used(usage: Usage, cost: Spent | None, currency: str | None) -> str:
    """Return what calls have used: tokens, and money where there is a price; empty for nothing.

    Args:
        usage: the tokens.
        cost: the money, None where no call had a price.
        currency: that of the price table; without one nobody knows what the sum is, and it is left out.
    """
    parts = [tokens(usage)]
    if cost is not None and currency is not None:
        parts.append(f"{money(cost.money, currency)}{', estimated' if cost.estimated else ''}")
    return " · ".join(filter(None, parts))


def left(budget: Budget, spending: Spending, currency: str | None) -> str:
    """Return what is left of a run's budget.

    Args:
        budget: what the run may use.
        spending: what it has used.
        currency: that of the price table, None if there is none.
    """
    parts = []
    if budget.tokens is not None:
        parts.append(f"{max(0, budget.tokens - spending.tokens):,} of {budget.tokens:,} tokens left")
    if budget.money is not None:
        rest = max(Decimal(0), budget.money - spending.money)
        parts.append(f"{money(rest, None)} of {money(budget.money, currency or 'in money')} left")
    return " · ".join([*parts, *([ESTIMATED] if spending.estimated else [])])


def left_today(day: DayBudget, currency: str | None) -> str:
    """Return what is left of a brand's budget of today.

    Args:
        day: the budget, and what calls have used of it.
        currency: that of the price table, None if there is none.
    """
    return left(day.budget, Spending(day.tokens, day.money, estimated=False), currency)


def spent(spending: Spending, currency: str | None) -> str:
    """Return what calls have used together, in tokens, and in money where there is a currency."""
    parts = [f"{spending.tokens:,} tokens"]
    if currency is not None and spending.money:
        parts.append(money(spending.money, currency))
    return " · ".join([*parts, *([ESTIMATED] if spending.estimated else [])])


def report(row: UsageRow, currency: str | None) -> str:
    """Return what all calls of a time have used, and what the sum of money leaves out.

    Args:
        row: the calls together.
        currency: that of the price table; None leaves out the money.
    """
    return " · ".join(filter(None, _report(row, currency)))


def money(amount: Decimal, currency: str | None) -> str:
    """Return a sum of money: in hundredths, and what is less than a tenth to two digits that are not zero.

    Args:
        amount: the sum.
        currency: what it is in; None where that is not known, or said elsewhere.
    """
    digits = max(LEAST_DIGITS, 1 - amount.adjusted()) if amount else LEAST_DIGITS
    return f"{amount:,.{digits}f}{f' {currency}' if currency else ''}"


def _report(row: UsageRow, currency: str | None) -> Iterator[str]:
    yield f"{row.calls:,} call{'s' if row.calls != 1 else ''} of the model"
    yield _tokens(row.prompt_tokens, row.completion_tokens)
    if currency is not None and row.unpriced_calls < row.calls:
        yield money(row.money, currency)
        if row.unpriced_calls:
            yield f"without {row.unpriced_calls:,} of models that have no price"
    if row.estimated_calls:
        yield f"{'all' if row.estimated_calls == row.calls else f'{row.estimated_calls:,} of them'} {ESTIMATED}"


def _tokens(read: int, written: int) -> str:
    return f"{read:,} tokens read, {written:,} written" if read or written else ""


FILTERS: Mapping[str, Callable[..., Any]] = {
    "tokens": tokens,
    "used": used,
    "left": left,
    "left_today": left_today,
    "spent": spent,
    "report": report,
    "money": money,
}
