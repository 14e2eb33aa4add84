"""The database's own name, the queue, providers, the processes that work on it, and how many there should be."""

from __future__ import annotations

from peewee import BooleanField, DoubleField, IntegerField, TextField, UUIDField
from playhouse.postgres_ext import BigIntegerField, DateTimeTZField

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
