"""Keys, sessions, the audit trail, limits, and responses that are repeated."""

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

from vm_webapp.db.models.base import JSONBField, Table, Xid8Field


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
