"""API keys: a secret that is shown once, and of which only the SHA-256 is kept.

The secret is 256 random bits, so a plain digest is as good as a slow one: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from peewee import IntegrityError, ProgrammingError
from uuid_utils.compat import uuid7

from vm_webapp.db.pool import execute, row, rows, transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound

SHAPE = re.compile(r"vmk_[A-Za-z0-9_-]{43}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
KEEP_DEAD_DAYS = 30
IN_FORCE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        state: ``active``, ``expired`` or ``revoked``.
        last_used_at: to the minute; None where it has not been used.
    """

    id: UUID
    name: str
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown, once."""

    id: UUID
    name: str
    secret: str
    expires_at: datetime | None

    def __repr__(self) -> str:
        return f"NewKey(name={self.name!r})"


def create_key(name: str, *, lasts: timedelta | None = None) -> NewKey:
    """Make a key.

    Args:
        name: who will use it; shown as the actor of what it does.
        lasts: for how long it opens anything, None for ever.

    Raises:
        InvalidInput: that cannot be a name.
        Conflict: a key in force has that name.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput("a key's name is 1 to 64 letters, digits or . _ @ -, the first a letter or a digit")
    secret = f"vmk_{secrets.token_urlsafe(32)}"
    try:
        with transaction():
            # An expired key of that name opens nothing; it makes room.
            execute(
                f"UPDATE api_keys SET revoked_at = clock_timestamp() WHERE name = %(name)s AND NOT ({IN_FORCE})"
                " AND revoked_at IS NULL",
                name=name,
            )
            made = row(
                """
                INSERT INTO api_keys (id, name, secret_sha256, expires_at)
                VALUES (%(id)s, %(name)s, %(digest)s, now() + %(lasts)s::interval)
                RETURNING id, name, expires_at
                """,
                id=uuid7(),
                name=name,
                digest=_digest(secret),
                lasts=lasts,
            )
    except IntegrityError as error:
        raise Conflict(f"there is a key named {name} already: revoke it, or choose another name") from error
    assert made is not None
    return NewKey(made["id"], made["name"], secret, made["expires_at"])


def list_keys() -> tuple[ApiKey, ...]:
    """Return every key, newest first."""
    with transaction():
        found = rows(
            f"""
            SELECT id, name, created_at, expires_at, last_used_at,
                   CASE WHEN {IN_FORCE} THEN 'active' WHEN revoked_at IS NULL THEN 'expired' ELSE 'revoked' END AS state
              FROM api_keys ORDER BY id DESC
            """
        )
    return tuple(ApiKey(**each) for each in found)


def revoke_key(name: str) -> None:
    """Make a key open nothing any more; an API that has just seen it may take it for some seconds yet.

    Args:
        name: its name, or its id.

    Raises:
        NotFound: no key that is not revoked has that name or id.
    """
    with transaction():
        revoked = execute(
            """
            UPDATE api_keys SET revoked_at = clock_timestamp()
             WHERE revoked_at IS NULL AND (name = %(name)s OR id::text = %(name)s)
            """,
            name=name,
        )
    if not revoked:
        raise NotFound(f"there is no key {name} that could be revoked; keys list shows those there are")


def find_name_of_key(secret: str) -> str | None:
    """Return the name of the key in force with this secret, and note that it was used; None where there is none.

    Raises:
        DatabaseUnavailable: nothing is known.
    """
    if not could_be_key(secret):
        return None
    digest = _digest(secret)
    try:
        with transaction(durable=False):
            found = row(f"SELECT name FROM api_keys WHERE secret_sha256 = %(digest)s AND {IN_FORCE}", digest=digest)
            if found is None:
                return None
            # Once a minute is enough to tell a key that is used from one that is not, and spares a write per request.
            execute(
                """
                UPDATE api_keys SET last_used_at = clock_timestamp()
                 WHERE secret_sha256 = %(digest)s
                   AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
                """,
                digest=digest,
            )
    except ProgrammingError:
        return None  # a database that is not migrated yet has no keys
    return str(found["name"])


def could_be_key(secret: str) -> bool:
    """Tell whether a text has the shape of a key: no other is worth a look into the database."""
    return SHAPE.fullmatch(secret) is not None


def purge_dead_keys() -> int:
    """Delete keys that were revoked, or ran out, more than 30 days ago; return how many."""
    with transaction(durable=False):
        return execute(
            """
            DELETE FROM api_keys
             WHERE least(revoked_at, expires_at) < clock_timestamp() - %(days)s * interval '1 day'
            """,
            days=KEEP_DEAD_DAYS,
        )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
