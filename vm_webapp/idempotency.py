"""Idempotency keys: a request that is repeated under one key takes effect once, and gets the first response again.

Key, effect and stored response are one transaction: after a crash there is either all of it or nothing. The key's lock
lasts as long as that transaction, so a process that dies leaves no lock behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from peewee import JOIN, SQL, Select, fn

from vm_webapp.db.compiled import HOUR, compiled, delete_from, param
from vm_webapp.db.models import IdempotencyKey
from vm_webapp.db.pool import database, execute, execute_along, jsonb, row, rows, transaction
from vm_webapp.db.prepared import prepared
from vm_webapp.errors import DatabaseBusy, VMError

KEEP_HOURS = 24
PURGE_BATCH = 1000
LONGEST_REQUEST_SECONDS = 15  # after which the API gives up waiting for it

_EXPIRES = fn.now() - KEEP_HOURS * HOUR
# Whether the lock was got is for the next statement, which is sent with it: a setting that ends with the transaction.
_LOCKED = "vm_webapp.key_locked"
_TRY_LOCK = prepared(
    Select(
        columns=[fn.set_config(_LOCKED, fn.pg_try_advisory_xact_lock(param("lock")).cast("text"), SQL("true"))]
    ).bind(database)
)
# Whether the holder can be no request in progress. PostgreSQL ends a session of ours that is idle in a transaction for
# five seconds; one whose state is hidden is of another role, and so none of ours.
_HOLDER = f"""
    SELECT a.pid, coalesce(a.state LIKE 'idle%%' AND clock_timestamp() - a.state_change > interval '6 s'
                           OR clock_timestamp() - a.xact_start > interval '{LONGEST_REQUEST_SECONDS} s',
                           a.state IS NULL) AS forgotten
      FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (l.classid::bigint << 32 | l.objid::bigint) = %(lock)s
"""
_LOCK = Select(columns=[fn.current_setting(_LOCKED).cast("boolean").alias("got")]).alias("lock")
_FIND = prepared(
    Select(
        [_LOCK],
        [
            _LOCK.c.got,
            *(IdempotencyKey.request_sha256, IdempotencyKey.status, IdempotencyKey.headers, IdempotencyKey.body),
        ],
    )
    .join(
        IdempotencyKey,
        JOIN.LEFT_OUTER,
        on=(IdempotencyKey.scope_sha256 == param("scope"))
        & (IdempotencyKey.created_at > _EXPIRES)
        & (IdempotencyKey.caller_id.is_null() | (IdempotencyKey.caller_id == param("caller_id"))),
    )
    .bind(database)
)
# Replace an expired row of the same key, which the purge may not have deleted yet, or that of another caller whose name
# was the same.
_STORE = prepared(
    IdempotencyKey.insert(
        {
            IdempotencyKey.scope_sha256: param("scope"),
            IdempotencyKey.request_sha256: param("sent"),
            IdempotencyKey.status: param("status"),
            IdempotencyKey.headers: param("headers"),
            IdempotencyKey.body: param("body"),
            IdempotencyKey.caller_id: param("caller_id"),
        }
    ).on_conflict(
        conflict_target=[IdempotencyKey.scope_sha256],
        preserve=[
            *(IdempotencyKey.request_sha256, IdempotencyKey.status, IdempotencyKey.headers, IdempotencyKey.body),
            IdempotencyKey.caller_id,
        ],
        update={IdempotencyKey.created_at: fn.now()},
    )
)
# Materialized, because PostgreSQL may run a subquery with LIMIT and SKIP LOCKED once per outer row, which would delete
# more than a batch.
_OLD = (
    IdempotencyKey.select(IdempotencyKey.scope_sha256)
    .where(IdempotencyKey.created_at < _EXPIRES)
    .order_by(IdempotencyKey.created_at)
    .limit(param("batch"))
    .for_update(skip_locked=True)
    .cte("old", materialized=True)
)
_PURGE = compiled(
    delete_from(IdempotencyKey).where(IdempotencyKey.scope_sha256.in_(_OLD.select(_OLD.c.scope_sha256))).with_cte(_OLD)
)


class KeyInUse(VMError):
    """A request with the same key is in progress."""

    code = "idempotency_in_progress"
    http_status = 409
    permanent = False
    retry_after_seconds = 1


class KeyReused(VMError):
    """The key was used with another request."""

    code = "idempotency_key_reused"
    http_status = 422


class KeyLocked(DatabaseBusy):
    """A session has held the key's lock for longer than a request may take."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it was sent; a repeated request gets the same bytes."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class KeyScope:
    """Where a key is valid: the same text from another caller, or for another operation, is a different key.

    Attributes:
        caller: the name of who sends the request.
        method: HTTP method.
        path: the full path.
        key: the value of ``Idempotency-Key``.
        caller_id: tells callers apart who have had the same name, one after the other. It is kept beside the digest and
            not in it, so that the build before, which knows no ids, finds the same rows and takes the same lock.
    """

    caller: str
    method: str
    path: str
    key: str
    caller_id: str | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the parts, each with its length, so that no two scopes share a digest."""
        parts = (self.caller, self.method, self.path, self.key)
        return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).digest()


def run_once_per_key(
    scope: KeyScope, request: bytes, effect: Callable[[], StoredResponse]
) -> tuple[StoredResponse, bool]:
    """Run an effect at most once for a key within 24 hours.

    1. Take the key's advisory lock, which PostgreSQL releases when the transaction ends, however it ends.
    2. If a response is stored for the key, return it. One message asks both, as two statements: the look has to see
       what was committed until the lock was free.
    3. Otherwise run the effect in the same transaction, and store its response, in one message with COMMIT.

    Args:
        scope: the key.
        request: the body that was sent; the same key may only repeat the same bytes.
        effect: executes the request and returns the response. An error is not stored: the next request tries again.

    Returns:
        The response, and whether it is that of an earlier request.

    Raises:
        KeyInUse: another request with this key is in progress.
        KeyReused: the key was used with another body.
        KeyLocked: a session has held the key's lock for longer than any request takes.
    """
    digest, lock = scope.digest, lock_number(scope.digest)
    sent = hashlib.sha256(request).digest()
    with transaction():
        # Do not wait for the lock: the other request may take long, and the wait would occupy a connection meanwhile.
        execute_along(_TRY_LOCK, lock=lock)
        (stored,) = rows(_FIND, scope=digest, caller_id=scope.caller_id)
        if not stored["got"]:
            _refuse_forgotten_lock(lock)
            raise KeyInUse("a request with this Idempotency-Key is in progress; ask again in a moment")
        if stored["status"] is not None:
            if bytes(stored["request_sha256"]) != sent:
                raise KeyReused(
                    "this Idempotency-Key was used with a body of other bytes, and bodies are compared byte by byte:"
                    " send the same bytes again, or use a new key"
                )
            return StoredResponse(stored["status"], stored["headers"], bytes(stored["body"])), True
        # The effect's transactions join this one, so its changes commit together with the response.
        response = effect()
        _store(scope, sent, response)
        return response, False


def _refuse_forgotten_lock(lock: int) -> None:
    """Raise KeyLocked if the session that holds a key's lock cannot be a request in progress."""
    holder = row(_HOLDER, lock=lock)
    if holder is not None and holder["forgotten"]:
        raise KeyLocked(f"pid {holder['pid']} keeps the lock of an Idempotency-Key")


def purge_expired_keys() -> int:
    """Delete up to ``PURGE_BATCH`` keys older than 24 hours; return how many."""
    with transaction(durable=False):
        return execute(_PURGE, batch=PURGE_BATCH)


def _store(scope: KeyScope, sent: bytes, response: StoredResponse) -> None:
    execute_along(
        _STORE,
        scope=scope.digest,
        caller_id=scope.caller_id,
        sent=sent,
        status=response.status,
        headers=jsonb(response.headers),
        body=response.body,
    )


def lock_number(digest: bytes) -> int:
    """Return the number of the advisory lock for a key."""
    # Eight bytes, because an advisory lock is a bigint. Two keys that share them only make one request retry.
    return int.from_bytes(digest[:8], "big", signed=True)
