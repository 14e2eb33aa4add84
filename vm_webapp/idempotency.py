"""Doing a thing once, however often it is asked for under one key.

Key, effect and stored answer are one transaction: after a crash there is either all of it or nothing, and a key that
nobody holds any more is free again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vm_webapp.db.pool import execute, json, row, transaction
from vm_webapp.errors import VMError

KEEP_HOURS = 24
PURGE_BATCH = 1000


class KeyInUse(VMError):
    """A call with the same key is in progress."""

    code = "idempotency_in_progress"
    http_status = 409
    permanent = False
    retry_after_seconds = 1


class KeyReused(VMError):
    """The key was used for something else."""

    code = "idempotency_key_reused"
    http_status = 422


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was given: the same bytes each time."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class KeyScope:
    """Where a key holds: the same key of another caller, or of another operation, is another key.

    Attributes:
        caller: who asks.
        method: HTTP method.
        path: the full path.
        key: what the caller chose.
    """

    caller: str
    method: str
    path: str
    key: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the parts, each with its length, so that no two scopes have one."""
        parts = (self.caller, self.method, self.path, self.key)
        return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).digest()


def do_once(scope: KeyScope, request: bytes, effect: Callable[[], StoredAnswer]) -> tuple[StoredAnswer, bool]:
    """Do something at most once for a key within 24 hours.

    1. Take the key's lock, which lasts until the transaction ends, however it ends.
    2. Where the key has an answer, return that.
    3. Else run the effect in the same transaction, and keep its answer.

    Args:
        scope: the key.
        request: the bytes that were sent; the same key may only repeat the same bytes.
        effect: does it and returns the answer. What it raises is not kept: the next call tries again.

    Returns:
        The answer, and whether it is that of an earlier call.

    Raises:
        KeyInUse: another call with this key is in progress.
        KeyReused: the key belongs to other bytes.
    """
    digest = scope.digest
    sent = hashlib.sha256(request).digest()
    with transaction():
        locked = row("SELECT pg_try_advisory_xact_lock(%(lock)s) AS got", lock=lock_number(digest))
        if locked is None or not locked["got"]:
            raise KeyInUse("a request with this Idempotency-Key is in progress; ask again in a moment")
        kept = row(
            """
            SELECT request_sha256, status, headers, body FROM idempotency_keys
             WHERE scope_sha256 = %(scope)s AND created_at > now() - %(hours)s * interval '1 hour'
            """,
            scope=digest,
            hours=KEEP_HOURS,
        )
        if kept is not None:
            if bytes(kept["request_sha256"]) != sent:
                raise KeyReused("this Idempotency-Key was used with another body; use a new key")
            return StoredAnswer(kept["status"], kept["headers"], bytes(kept["body"])), True
        answer = effect()
        _keep(digest, sent, answer)
        return answer, False


def purge_expired_keys() -> int:
    """Delete up to ``PURGE_BATCH`` keys older than 24 hours; return how many."""
    with transaction(durable=False):
        return execute(
            """
            WITH old AS MATERIALIZED (
                SELECT scope_sha256 FROM idempotency_keys WHERE created_at < now() - %(hours)s * interval '1 hour'
                 ORDER BY created_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
            DELETE FROM idempotency_keys k USING old WHERE k.scope_sha256 = old.scope_sha256
            """,
            hours=KEEP_HOURS,
            batch=PURGE_BATCH,
        )


def _keep(digest: bytes, sent: bytes, answer: StoredAnswer) -> None:
    values: dict[str, Any] = {
        "scope": digest,
        "sent": sent,
        "status": answer.status,
        "headers": json(answer.headers),
        "body": answer.body,
    }
    execute(
        """
        INSERT INTO idempotency_keys (scope_sha256, request_sha256, status, headers, body)
        VALUES (%(scope)s, %(sent)s, %(status)s, %(headers)s, %(body)s)
        ON CONFLICT (scope_sha256) DO UPDATE
           SET request_sha256 = excluded.request_sha256, status = excluded.status, headers = excluded.headers,
               body = excluded.body, created_at = now()
        """,
        **values,
    )


def lock_number(digest: bytes) -> int:
    """Return the number of the advisory lock that stands for a key."""
    return int.from_bytes(digest[:8], "big", signed=True)
