"""Peewee's view of the tables that queries read; the migrations are what creates them."""

from __future__ import annotations

from peewee import (
    BooleanField,
    DateField,
    ForeignKeyField,
    IntegerField,
    Model,
    SmallIntegerField,
    TextField,
    UUIDField,
)
from playhouse.postgres_ext import BigIntegerField, BinaryJSONField, DateTimeTZField

from vm_webapp.db.pool import database


class Table(Model):
    """A table of this program's database."""

    class Meta:
        database = database
        legacy_table_names = False


class Brand(Table):
    """Whose voice, products and facts the documents use."""

    id = UUIDField(primary_key=True)
    name = TextField()
    voice = TextField()
    audience = TextField()
    products = BinaryJSONField(index=False)
    facts = BinaryJSONField(index=False)
    forbidden_words = BinaryJSONField(index=False)
    version = IntegerField()
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()
    archived_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "brands"


class Project(Table):
    """What a set of runs works toward."""

    id = UUIDField(primary_key=True)
    brand = ForeignKeyField(Brand, null=True, lazy_load=False)
    name = TextField()
    objective = TextField()
    channels = BinaryJSONField(index=False)
    starts_on = DateField(null=True)
    ends_on = DateField(null=True)
    version = IntegerField()
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()
    archived_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "projects"


class Run(Table):
    """One request carried through one workflow."""

    id = UUIDField(primary_key=True)
    workflow = TextField()
    status = TextField()
    priority = SmallIntegerField()
    request = TextField()
    auto_approve = BooleanField()
    brand = ForeignKeyField(Brand, null=True, lazy_load=False)
    project = ForeignKeyField(Project, null=True, lazy_load=False)
    parent_run = ForeignKeyField("self", null=True, lazy_load=False)
    snapshot = BinaryJSONField(index=False)
    error = BinaryJSONField(index=False, null=True)
    created_at = DateTimeTZField()
    started_at = DateTimeTZField(null=True)
    finished_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "runs"


class Stage(Table):
    """One step of a run; the queued ones are the queue."""

    id = UUIDField(primary_key=True)
    run = ForeignKeyField(Run, lazy_load=False)
    position = SmallIntegerField()
    key = TextField()
    title = TextField()
    status = TextField()
    priority = SmallIntegerField()
    requires_approval = BooleanField()
    needs_model = BooleanField()
    attempt = IntegerField()
    failures = IntegerField()
    rescues = IntegerField()
    releases = IntegerField()
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
    error = BinaryJSONField(index=False, null=True)

    class Meta:
        table_name = "stages"


class Artifact(Table):
    """One immutable version of a stage's document."""

    id = UUIDField(primary_key=True)
    run = ForeignKeyField(Run, lazy_load=False)
    stage = ForeignKeyField(Stage, lazy_load=False)
    version = IntegerField()
    attempt_token = UUIDField(null=True)
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
    author = TextField(null=True)
    created_at = DateTimeTZField()

    class Meta:
        table_name = "artifacts"


class Event(Table):
    """One entry of a run's timeline."""

    id = BigIntegerField(primary_key=True)
    run = ForeignKeyField(Run, lazy_load=False)
    stage = TextField(null=True)
    type = TextField()
    actor = TextField()
    data = BinaryJSONField(index=False)
    created_at = DateTimeTZField()

    class Meta:
        table_name = "events"


TABLES: list[type[Table]] = [Brand, Project, Run, Stage, Artifact, Event]
