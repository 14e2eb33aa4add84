"""What model calls have used."""

from __future__ import annotations

from peewee import (
    BooleanField,
    DateField,
    TextField,
    UUIDField,
)
from playhouse.postgres_ext import BigIntegerField

from vm_webapp.db.models.base import MoneyField, Table


class UnsummedCall(Table):
    """A model call that has ended and is not yet part of its day's usage."""

    id = BigIntegerField(primary_key=True)
    day = DateField()  # in the time zone of its brand, else in UTC
    brand_id = UUIDField(null=True)
    workflow = TextField()
    model = TextField()
    prompt_tokens = BigIntegerField()
    completion_tokens = BigIntegerField()
    money = MoneyField(null=True)  # NULL: its model has no price
    estimated = BooleanField()

    class Meta:
        table_name = "unsummed_calls"


class UsageDay(Table):
    """What a brand has used on one day with one workflow and one model."""

    day = DateField()
    brand_id = UUIDField(null=True)
    workflow = TextField()
    model = TextField()
    calls = BigIntegerField()
    estimated_calls = BigIntegerField()
    unpriced_calls = BigIntegerField()
    prompt_tokens = BigIntegerField()
    completion_tokens = BigIntegerField()
    money = MoneyField()

    class Meta:
        table_name = "usage_days"
        primary_key = False
