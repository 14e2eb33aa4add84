"""Idempotency keys: a request that is repeated under one key takes effect once, and gets the first response again.

Key, effect and stored response are one transaction: after a crash there is either all of it or nothing. The key's lock
lasts as long as that transaction, so a process that dies leaves no lock behind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peewee import fn

from vm_webapp.db.compiled import HOUR, compiled, delete_from, param
from vm_webapp.db.models import IdempotencyKey
from vm_webapp.db.pool import Row, execute, execute_along, row, rows, transaction
from vm_webapp.db.prepared import Prepared
from vm_webapp.errors import DatabaseBusy, VMError

KEEP_HOURS = 24
PURGE_BATCH = 1000
IN_USE = "a request with this Idempotency-Key is in progress; ask again in a moment"
LONGEST_REQUEST_SECONDS = 15  # after which the API gives up waiting for it

_EXPIRES = fn.now() - KEEP_HOURS * HOUR
# Which locks were got is for the next statement, which is sent with it: a setting that ends with the transaction.
_TRY_LOCKS = Prepared(
    """
    SELECT set_config('vm_webapp.keys_locked', array_agg(pg_try_advisory_xact_lock(lock) ORDER BY place)::text, true)
      FROM unnest(%(locks)s::bigint[]) WITH ORDINALITY AS asked(lock, place)
    """
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
_FIND = Prepared(
    f"""
    SELECT (current_setting('vm_webapp.keys_locked')::boolean[])[place] AS got, request_sha256, status, headers, body
      FROM unnest(%(scopes)s::bytea[], %(caller_ids)s::text[]) WITH ORDINALITY AS asked(scope, caller, place)
      LEFT JOIN idempotency_keys ON scope_sha256 = scope AND created_at > now() - interval '{KEEP_HOURS} hours'
                                AND (caller_id IS NULL OR caller_id = caller)
     ORDER BY place
    """
)
# Replace an expired row of the same key, which the purge may not have deleted yet, or that of another caller whose name
# was the same.
_STORE = Prepared(
    """
    INSERT INTO idempotency_keys (scope_sha256, request_sha256, status, headers, body, caller_id)
    SELECT scope, sent, status, headers::jsonb, body, caller
      FROM unnest(%(scopes)s::bytea[], %(sent)s::bytea[], %(statuses)s::smallint[], %(headers)s::text[],
                  %(bodies)s::bytea[], %(caller_ids)s::text[]) AS answered(scope, sent, status, headers, body, caller)
    ON CONFLICT (scope_sha256) DO UPDATE
       SET request_sha256 = excluded.request_sha256, status = excluded.status, headers = excluded.headers,
           body = excluded.body, caller_id = excluded.caller_id, created_at = now()
    """
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


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with a key.

    Attributes:
        scope: the key.
        sent: SHA-256 of the body that was sent; the same key may only repeat the same bytes.
    """

    scope: KeyScope
    sent: bytes

    @classmethod
    def of(cls, scope: KeyScope, body: bytes) -> KeyedRequest:
        """Return the request that sends a body under a key."""
        return cls(scope, hashlib.sha256(body).digest())


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and whether it is that of an earlier request."""

    response: StoredResponse
    replayed: bool = False


def run_once_per_key(request: KeyedRequest, effect: Callable[[], StoredResponse]) -> Answer:
    """Run an effect at most once for a key within 24 hours.

    Args:
        request: the request.
        effect: executes the request and returns the response. An error is not stored: the next request tries again.

    Raises:
        KeyInUse: another request with this key is in progress.
        KeyReused: the key was used with another body.
        KeyLocked: a session has held the key's lock for longer than any request takes.
    """
    (answer,) = run_each_once([request], lambda _: [effect()])
    if isinstance(answer, VMError):
        raise answer
    return answer


def run_each_once(
    requests: Sequence[KeyedRequest], effect: Callable[[Sequence[int]], Sequence[StoredResponse]]
) -> list[Answer | VMError]:
    """Run the effects of several requests, each at most once for its key within 24 hours, in one transaction.

    1. Try to take the keys' advisory locks, which PostgreSQL releases when the transaction ends, however it ends.
    2. Look for responses that are stored for the keys. One message asks both, as two statements: the look has to see
       what was committed until the locks were free.
    3. Run the effect of all others in the same transaction, and store their responses, in one message with COMMIT.

    Args:
        requests: the requests.
        effect: executes those with these places in ``requests``, and returns their responses in the same order.

    Returns:
        What came of each request: an answer, or the error that ``run_once_per_key`` would raise.
    """
    digests = [request.scope.digest for request in requests]
    with transaction():
        # Do not wait for a lock: the other request may take long, and the wait would occupy a connection meanwhile.
        execute_along(_TRY_LOCKS, locks=[lock_number(digest) for digest in digests])
        found = rows(_FIND, scopes=digests, caller_ids=[request.scope.caller_id for request in requests])
        # A session gets a lock again that it has.
        first = {digest: place for place, digest in reversed([*enumerate(digests)])}
        answers: list[Answer | VMError | None] = [
            _known(request, stored, lock_number(digest), again=first[digest] != place)
            for place, (request, digest, stored) in enumerate(zip(requests, digests, found, strict=True))
        ]
        new = [place for place, answer in enumerate(answers) if answer is None]
        if new:
            # The effect's transactions join this one, so its changes commit together with the responses.
            responses = effect(new)
            _store([requests[place] for place in new], [digests[place] for place in new], responses)
            for place, response in zip(new, responses, strict=True):
                answers[place] = Answer(response)
    return [answer for answer in answers if answer is not None]


def _known(request: KeyedRequest, stored: Row, lock: int, *, again: bool) -> Answer | VMError | None:
    """Return what is known of a request before its effect, None if it is to be executed.

    Args:
        request: the request.
        stored: the response that is stored for its key, and whether the key's lock was got.
        lock: the number of that lock.
        again: whether it comes after another one with the same key.
    """
    if not stored["got"]:
        return _forgotten_lock(lock) or KeyInUse(IN_USE)
    if stored["status"] is None:
        return KeyInUse(IN_USE) if again else None
    if bytes(stored["request_sha256"]) != request.sent:
        return KeyReused(
            "this Idempotency-Key was used with a body of other bytes, and bodies are compared byte by byte:"
            " send the same bytes again, or use a new key"
        )
    return Answer(StoredResponse(stored["status"], stored["headers"], bytes(stored["body"])), replayed=True)


def _forgotten_lock(lock: int) -> KeyLocked | None:
    """Return an error if the session that holds a key's lock cannot be a request in progress."""
    holder = row(_HOLDER, lock=lock)
    if holder is None or not holder["forgotten"]:
        return None
    return KeyLocked(f"pid {holder['pid']} keeps the lock of an Idempotency-Key")


def purge_expired_keys() -> int:
    """Delete up to ``PURGE_BATCH`` keys older than 24 hours; return how many."""
    with transaction(durable=False):
        return execute(_PURGE, batch=PURGE_BATCH)


def _store(requests: Sequence[KeyedRequest], digests: Sequence[bytes], responses: Sequence[StoredResponse]) -> None:
    execute_along(
        _STORE,
        scopes=list(digests),
        caller_ids=[request.scope.caller_id for request in requests],
        sent=[request.sent for request in requests],
        statuses=[response.status for response in responses],
        headers=[json.dumps(response.headers) for response in responses],
        bodies=[response.body for response in responses],
    )


def lock_number(digest: bytes) -> int:
    """Return the number of the advisory lock for a key."""
    # Eight bytes, because an advisory lock is a bigint. Two keys that share them only make one request retry.
    return int.from_bytes(digest[:8], "big", signed=True)
