"""The tables, column by column: the core builds its queries from them.

The migrations create the tables; ``tests/db/test_models.py`` compares each column here with the migrated schema.
Columns that PostgreSQL fills in by itself (an identity, ``DEFAULT now()``) have no default here, so that one clock sets
all times.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from peewee import (
    BlobField,
    BooleanField,
    DateField,
    DecimalField,
    DoubleField,
    Field,
    ForeignKeyField,
    IntegerField,
    Model,
    SmallIntegerField,
    TextField,
    UUIDField,
)
from playhouse.postgres_ext import BigIntegerField, BinaryJSONField, DateTimeTZField

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


class Table(Model):
    """A table of this program's database."""

    class Meta:
        database = database
        legacy_table_names = False


class Installation(Table):
    """The one row that distinguishes this database from a copy of another one."""

    id = UUIDField(primary_key=True)

    class Meta:
        table_name = "installation"


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
    snapshot = JSONBField()
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


class IdempotencyKey(Table):
    """The response that a request with an ``Idempotency-Key`` got, to be repeated."""

    scope_sha256 = BlobField(primary_key=True)
    request_sha256 = BlobField()
    status = SmallIntegerField()
    headers = JSONBField()
    body = BlobField()
    created_at = DateTimeTZField()
    caller_id = TextField(null=True)  # see vm_webapp.access.actor

    class Meta:
        table_name = "idempotency_keys"


class ApiKey(Table):
    """A key of an API client; only the digest of its secret is stored."""

    id = UUIDField(primary_key=True)
    name = TextField()
    role = TextField(null=True)  # NULL: an admin's
    secret_sha256 = BlobField(unique=True)
    created_at = DateTimeTZField()
    expires_at = DateTimeTZField(null=True)
    revoked_at = DateTimeTZField(null=True)
    last_used_at = DateTimeTZField(null=True)

    class Meta:
        table_name = "api_keys"


class Session(Table):
    """A browser in which somebody has signed in with a key or with VM_API_TOKEN; only its secret's digest is stored."""

    id = UUIDField(primary_key=True)
    secret_sha256 = BlobField(unique=True)
    key = ForeignKeyField(ApiKey, null=True, lazy_load=False, on_delete="CASCADE")
    token_sha256 = BlobField(null=True)
    created_at = DateTimeTZField()
    last_seen_at = DateTimeTZField()
    ended_at = DateTimeTZField(null=True)
    address = TextField(null=True)
    user_agent = TextField(null=True)

    class Meta:
        table_name = "sessions"


class Xid8Field(Field):
    """A transaction's id with its epoch, which PostgreSQL's driver returns as text."""

    field_type = "XID8"


class AuditEntry(Table):
    """Who did what to what, from where, with which result; see ``vm_webapp.access.audit``."""

    xid = Xid8Field()
    id = BigIntegerField(primary_key=True)
    at = DateTimeTZField()
    actor = TextField()
    actor_id = TextField(null=True)
    role = TextField(null=True)
    address = TextField(null=True)
    request_id = TextField(null=True)
    action = TextField()
    target = TextField(null=True)
    result = TextField()
    data = JSONBField()

    class Meta:
        table_name = "audit_entries"


class AuditSeal(Table):
    """The place of an entry in the chain, and the hash over it and the one before."""

    position = BigIntegerField(primary_key=True)
    entry_id = BigIntegerField()
    hash = BlobField()
    sealed_at = DateTimeTZField()

    class Meta:
        table_name = "audit_seals"


class AuditPruned(Table):
    """Where retention has cut the chain, and the hash that the rest follows."""

    position = BigIntegerField(primary_key=True)
    hash = BlobField()
    pruned_at = DateTimeTZField()

    class Meta:
        table_name = "audit_pruned"


class AuditHead(Table):
    """The one row with the end of the chain; see ``vm_webapp.access.audit.sealing``."""

    one = BooleanField(primary_key=True)
    position = BigIntegerField()
    hash = BlobField()
    low_id = BigIntegerField()
    mark_id = BigIntegerField()
    mark_xid = Xid8Field()

    class Meta:
        table_name = "audit_head"


class RateWindow(Table):
    """How often something was done since its current window began; after a crash of PostgreSQL the table is empty."""

    counted = TextField(primary_key=True)
    began_at = DateTimeTZField()
    taken = BigIntegerField()

    class Meta:
        table_name = "rate_windows"


class RunsOfDay(Table):
    """How many runs a key has created on a day, in UTC."""

    key = ForeignKeyField(ApiKey, primary_key=True, lazy_load=False, on_delete="CASCADE")
    day = DateField()
    runs = IntegerField()

    class Meta:
        table_name = "runs_of_day"
