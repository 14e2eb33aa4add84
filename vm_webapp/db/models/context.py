"""Brands and projects."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from peewee import (
    DateField,
    ForeignKeyField,
    IntegerField,
    TextField,
    UUIDField,
)
from playhouse.postgres_ext import DateTimeTZField

from vm_webapp.db.models.base import JSONBField, LimitField, MoneyBudgetField, Table, TimeZoneField, TokenBudgetField


class Resource(Table):
    """What people create, change and archive through the API.

    The fields that a subclass adds, foreign keys and limits apart, are its content: ``vm_webapp.context.fields`` takes
    them into snapshots and prompts.
    """

    name: Any  # a field of each subclass, since it is content
    id = UUIDField(primary_key=True)
    version = IntegerField()
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()
    archived_at = DateTimeTZField(null=True)


class Brand(Resource):
    """Whose voice, products and facts the artifacts use."""

    name = TextField()
    voice = TextField()
    audience = TextField()
    products = JSONBField()
    facts = JSONBField()
    forbidden_words = JSONBField()
    max_running = LimitField(null=True)  # how many of its stages may run at a time
    time_zone = TimeZoneField()
    day_budget_tokens = TokenBudgetField(null=True)
    day_budget_money = MoneyBudgetField(null=True)

    @property
    def day_budget(self) -> dict[str, Any] | None:
        """The two columns of its budget as one value, ``tokens`` and ``money``; None if it has no budget."""
        parts = {"tokens": self.day_budget_tokens, "money": self.day_budget_money}
        return None if parts == {"tokens": None, "money": None} else parts

    class Meta:
        table_name = "brands"


class Project(Resource):
    """What a set of runs works toward."""

    # lazy_load=False here and below: reading ``project.brand`` must not send a query, perhaps outside a transaction.
    brand = ForeignKeyField(Brand, null=True, lazy_load=False)
    brand_id: UUID | None  # Peewee makes it beside the foreign key
    name = TextField()
    objective = TextField()
    channels = JSONBField()
    starts_on = DateField(null=True)
    ends_on = DateField(null=True)

    class Meta:
        table_name = "projects"
