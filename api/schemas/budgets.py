"""Budgets in requests and responses."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from api.http.values import AS_JSON_WHOLE, Money, refusal
from api.operations.models import Input, Output
from api.services import SERVICES
from vm_webapp.errors import InvalidInput
from vm_webapp.runs.budget import Budget, check_priced

MOST_TOKENS = 10**15
MOST_MONEY = 10**9
WRITTEN = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")


def _decimal(value: Any) -> Any:
    # bool is a number in Python.
    if isinstance(value, int | float) and not isinstance(value, bool):
        # The shortest text of a float, 0.1 for 0.1: not the binary fraction that is next to it.
        return Decimal(str(value))
    if isinstance(value, str) and WRITTEN.fullmatch(value):
        return Decimal(value)
    raise refusal('must be a number, or one as text, such as "0.50"')


# As text too, because responses write it so: what was read may be sent back.
MoneyIn = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    Field(gt=0, le=MOST_MONEY, decimal_places=9),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_MONEY},
                {"type": "string", "pattern": f"^{WRITTEN.pattern}$"},
            ]
        }
    ),
]


class BudgetIn(Input):
    """What may be spent: tokens, money or both. It is given whole: what it leaves out is not limited."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("tokens", "money")
            ]
        }
    )

    tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS), AS_JSON_WHOLE] | None = Field(
        default=None, description="Prompt and completion tokens together."
    )
    money: MoneyIn | None = Field(
        default=None, description="In the currency of VM_MODEL_PRICES, which must have a price for the model."
    )

    @field_validator("money")
    @classmethod
    def _can_be_counted(cls, money: Decimal | None, info: ValidationInfo) -> Decimal | None:
        """Refuse money where the price of a call is not known."""
        assert info.context is not None
        settings = info.context[SERVICES].settings
        try:
            if money is not None:
                check_priced(settings.model_prices, settings.kimi_model)
        except InvalidInput as error:
            raise refusal(str(error)) from None
        return money

    @model_validator(mode="after")
    def _limits_something(self) -> BudgetIn:
        """Refuse a budget of nothing at all."""
        if self.tokens is None and self.money is None:
            raise refusal("give tokens, money or both")
        return self

    def budget(self) -> Budget:
        """Return it as the core takes it."""
        return Budget(self.tokens, self.money)


class BudgetOut(Output):
    """What may be spent; null for what is not limited."""

    tokens: int | None
    money: Money | None
