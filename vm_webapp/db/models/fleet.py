"""The database's own name, the queue, providers, and the processes that work on it."""

from __future__ import annotations

from peewee import (
    BooleanField,
    IntegerField,
    TextField,
    UUIDField,
)
from playhouse.postgres_ext import DateTimeTZField

from vm_webapp.db.models.base import JSONBField, Table


class Installation(Table):
    """The one row that distinguishes this database from a copy of another one."""

    id = UUIDField(primary_key=True)

    class Meta:
        table_name = "installation"


class Queue(Table):
    """A queue and the operator's pause of it; ``stages`` is the only one."""

    name = TextField(primary_key=True)
    paused_at = DateTimeTZField(null=True)
    paused_by = TextField(null=True)
    reason = TextField(null=True)

    class Meta:
        table_name = "queues"


class Provider(Table):
    """A model provider, its recent failures and its pause."""

    name = TextField(primary_key=True)
    paused_at = DateTimeTZField(null=True)
    paused_until = DateTimeTZField(null=True)
    reason = JSONBField(null=True)
    consecutive_failures = IntegerField()
    pauses = IntegerField()
    probe_token = UUIDField(null=True)  # the lease token of the attempt that probes the provider during a pause

    class Meta:
        table_name = "providers"


class WorkerHeartbeat(Table):
    """The last heartbeat of a worker."""

    worker_id = UUIDField(primary_key=True)
    host = TextField()
    pid = IntegerField()
    build = TextField()
    newest_migration = TextField()
    fingerprint = TextField()
    provider = TextField()
    llm_cap = IntegerField(null=True)
    state = TextField()
    slots = IntegerField()
    in_flight = IntegerField()
    started_at = DateTimeTZField()
    last_tick_at = DateTimeTZField()
    steady_since = DateTimeTZField()  # of the fleet, not of this worker: see vm_webapp.fleet.heartbeats
    last_claim_at = DateTimeTZField(null=True)
    last_model_outcome = JSONBField(null=True)
    last_error = JSONBField(null=True)
    counters = JSONBField()
    stopped_at = DateTimeTZField(null=True)
    workspace = JSONBField(null=True)

    class Meta:
        table_name = "worker_heartbeats"


class ProcessMetrics(Table):
    """The metrics of one API or worker process, or the sum of those that are gone."""

    process_id = UUIDField(primary_key=True)
    kind = TextField()
    instance = TextField()
    gone = BooleanField()
    samples = JSONBField()
    written_at = DateTimeTZField()

    class Meta:
        table_name = "process_metrics"


class DutyLease(Table):
    """Which process does what only one may do at a time, and until when."""

    name = TextField(primary_key=True)
    token = UUIDField()
    holder = TextField()
    details = JSONBField()
    expires_at = DateTimeTZField()

    class Meta:
        table_name = "duty_leases"
