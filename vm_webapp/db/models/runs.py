"""Runs, what they are made of, the views of their list, and what their model calls have used."""

from __future__ import annotations

from peewee import (
    BlobField,
    BooleanField,
    DateField,
    ForeignKeyField,
    IntegerField,
    SmallIntegerField,
    TextField,
    UUIDField,
)
from playhouse.postgres_ext import BigIntegerField, DateTimeTZField

from vm_webapp.db.models.base import JSONBField, MoneyField, Table
from vm_webapp.db.models.context import Brand, Project


class Snapshot(Table):
    """A version of a workflow, a brand or a project that runs were created with."""

    digest = BlobField(primary_key=True)  # see vm_webapp.digest
    content = JSONBField()
    created_at = DateTimeTZField()

    class Meta:
        table_name = "snapshots"


class SnapshotField(ForeignKeyField):
    """A reference to a snapshot, NULL for none."""

    def __init__(self, column_name: str) -> None:
        super().__init__(Snapshot, column_name=column_name, null=True, lazy_load=False, backref="+")


class Run(Table):
    """One request and the workflow that is run for it."""

    id = UUIDField(primary_key=True)
    workflow = TextField()
    status = TextField()
    priority = SmallIntegerField()
    request = TextField()
    auto_approve = BooleanField()
    brand = ForeignKeyField(Brand, null=True, lazy_load=False)
    project = ForeignKeyField(Project, null=True, lazy_load=False)
    parent_run = ForeignKeyField("self", null=True, lazy_load=False, on_delete="SET NULL")
    workflow_digest = SnapshotField("workflow_digest")  # NULL: all three are in ``snapshot``
    brand_digest = SnapshotField("brand_digest")
    project_digest = SnapshotField("project_digest")
    snapshot = JSONBField(null=True)
    error = JSONBField(null=True)
    created_at = DateTimeTZField()
    started_at = DateTimeTZField(null=True)
    finished_at = DateTimeTZField(null=True)
    created_by = TextField(null=True)
    start_tag = BigIntegerField()  # see vm_webapp.runs.fair_order
    four_eyes = BooleanField()
    creator_id = TextField(null=True)  # see vm_webapp.access.actor
    request_id = TextField(null=True)
    budget_tokens = BigIntegerField(null=True)
    budget_money = MoneyField(null=True)
    archived_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "runs"


class Stage(Table):
    """One step of a run; the queued ones are the queue."""

    id = UUIDField(primary_key=True)
    run = ForeignKeyField(Run, lazy_load=False, on_delete="CASCADE")
    position = SmallIntegerField()
    key = TextField()
    title = TextField()
    status = TextField()
    # The run's, copied for the indexes of the queue and the rules of admission.
    priority = SmallIntegerField()
    start_tag = BigIntegerField()
    brand_id = UUIDField(null=True)  # not known where start_tag is 0
    requires_approval = BooleanField()
    needs_model = BooleanField()
    attempt = IntegerField()
    failures = IntegerField()
    rescues = IntegerField()
    releases = IntegerField()
    failed_prompt_tokens = IntegerField()
    failed_completion_tokens = IntegerField()
    available_at = DateTimeTZField(null=True)
    queued_at = DateTimeTZField(null=True)
    started_at = DateTimeTZField(null=True)
    finished_at = DateTimeTZField(null=True)
    lease_token = UUIDField(null=True)
    lease_expires_at = DateTimeTZField(null=True)
    deadline_at = DateTimeTZField(null=True)
    worker_id = UUIDField(null=True)
    provider = TextField(null=True)
    feedback = TextField(null=True)
    error = JSONBField(null=True)
    budgeted = BooleanField()  # whether its run has a budget
    spent_tokens = BigIntegerField()
    spent_money = MoneyField(null=True)  # NULL: no call of a model with a price
    spent_estimated = BooleanField()
    trace_context = TextField(null=True)  # a traceparent of W3C Trace Context

    class Meta:
        table_name = "stages"


class Artifact(Table):
    """One immutable version of what a stage produced."""

    id = UUIDField(primary_key=True)
    run = ForeignKeyField(Run, lazy_load=False, on_delete="CASCADE")
    stage = ForeignKeyField(Stage, lazy_load=False, on_delete="CASCADE")
    version = IntegerField()
    attempt_token = UUIDField(null=True)  # recognises a repeated finish after a COMMIT whose result never arrived
    name = TextField()
    media_type = TextField()
    sha256 = TextField()
    size = IntegerField()
    content = TextField()
    provider = TextField()
    model = TextField(null=True)
    prompt_tokens = IntegerField(null=True)
    completion_tokens = IntegerField(null=True)
    truncated = BooleanField()
    note = TextField(null=True)
    author = TextField(null=True)
    created_at = DateTimeTZField()

    class Meta:
        table_name = "artifacts"


class Event(Table):
    """One entry of a run's timeline."""

    # An identity and not a UUID: within a run the order of ids is the order of commits, which streams rely on.
    id = BigIntegerField(primary_key=True)
    run = ForeignKeyField(Run, lazy_load=False, on_delete="CASCADE")
    stage = TextField(null=True)
    type = TextField()
    actor = TextField()
    data = JSONBField()
    created_at = DateTimeTZField()

    class Meta:
        table_name = "events"


class SavedView(Table):
    """Filters and order of the list of runs, under a name that a person has given them."""

    id = UUIDField(primary_key=True)
    owner = TextField()
    name = TextField()
    query = TextField()
    created_at = DateTimeTZField()

    class Meta:
        table_name = "saved_views"


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
