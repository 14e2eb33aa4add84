"""The base of all tables, and the types of columns that Peewee does not have."""

from __future__ import annotations

from peewee import (
    DecimalField,
    Field,
    IntegerField,
    Model,
    TextField,
)
from playhouse.postgres_ext import BigIntegerField, BinaryJSONField

from vm_webapp.db.pool import database


class JSONBField(BinaryJSONField):
    """A ``jsonb`` column without the GIN index that Peewee would declare for it."""

    def __init__(self, *, null: bool = False) -> None:
        super().__init__(index=False, null=null)  # type: ignore[no-untyped-call]


class MoneyField(DecimalField):
    """A sum of money, in the one currency of the price table."""

    def __init__(self, *, null: bool = False) -> None:
        super().__init__(max_digits=20, decimal_places=9, null=null)


class Administrative:
    """A column of a brand that says how its work is administered: no content, so prompts never see it."""


class LimitField(Administrative, IntegerField):
    """A number that limits a brand's work, NULL for no limit."""


class TokenBudgetField(Administrative, BigIntegerField):
    """A brand's budget in tokens, NULL for none."""


class MoneyBudgetField(Administrative, MoneyField):
    """A brand's budget in money, NULL for none."""


class TimeZoneField(Administrative, TextField):
    """The IANA name of the time zone in which a brand's days begin."""


class Xid8Field(Field):
    """A transaction's id with its epoch, which PostgreSQL's driver returns as text."""

    field_type = "XID8"


class Table(Model):
    """A table of this program's database."""

    class Meta:
        database = database
        legacy_table_names = False
