"""How many workers there should be, and what was done about it."""

from __future__ import annotations

from peewee import (
    BooleanField,
    DoubleField,
    IntegerField,
    TextField,
)
from playhouse.postgres_ext import BigIntegerField, DateTimeTZField

from vm_webapp.db.models.base import JSONBField, Table


class AutoscaleDecision(Table):
    """The one row with the latest decision on the number of workers, and what it follows from."""

    one = BooleanField(primary_key=True)
    decided_at = DateTimeTZField()
    desired_workers = IntegerField()
    reason = TextField()
    arrivals_per_minute = DoubleField()
    completions_per_minute = DoubleField()
    mean_stage_seconds = DoubleField(null=True)
    min_workers = IntegerField()
    max_workers = IntegerField()
    target_wait_seconds = DoubleField()
    figures = JSONBField()
    past = JSONBField()

    class Meta:
        table_name = "autoscale_decision"


class QueueHistory(Table):
    """The figures of the queue at a time in the last hours."""

    at = DateTimeTZField(primary_key=True)
    queued = IntegerField()
    due = IntegerField()
    running = IntegerField()
    oldest_due_seconds = DoubleField()
    workers = IntegerField()
    slots = IntegerField()
    in_flight = IntegerField()
    desired_workers = IntegerField()
    reason = TextField()

    class Meta:
        table_name = "queue_history"


class ScaleCall(Table):
    """A call to the platform that changes the number of workers, and how it ended."""

    id = BigIntegerField(primary_key=True)
    at = DateTimeTZField()
    service = TextField()
    was = IntegerField(null=True)
    wanted = IntegerField()
    outcome = TextField()
    detail = TextField()

    class Meta:
        table_name = "scale_calls"
