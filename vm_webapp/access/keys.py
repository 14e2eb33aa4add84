"""API keys: a secret is shown once, and only its SHA-256 is stored.

A secret is more than 200 random bits, which cannot be guessed, so a plain digest protects it as well as a slow one
would. Its last characters are a checksum, by which a mistyped key, or a scanner's find, is told from a guess.

A key with a role is longer than one without: the build before takes every key for an admin's, and refuses this length.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from peewee import Case, IntegrityError, ProgrammingError, fn
from uuid_utils.compat import uuid7

from vm_webapp.access.actor import Actor
from vm_webapp.access.audit import record
from vm_webapp.access.roles import ROLES, Role
from vm_webapp.db import models
from vm_webapp.db.compiled import DAY, MINUTE, NOW, compiled, delete_from, param
from vm_webapp.db.pool import execute, row, rows, transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound

PREFIX = "vmk_"
# In characters, after the prefix and with the checksum.
WITH_ROLE, WITHOUT_ROLE = 49, 43
SHAPE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{{WITHOUT_ROLE}}}(?:[A-Za-z0-9_-]{{{WITH_ROLE - WITHOUT_ROLE}}})?")
CHECKSUM = 6  # characters: 62 ** 6 is more than 2 ** 32
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
KEEP_DAYS = 30

_KEY = models.ApiKey
_NOT_REVOKED = _KEY.revoked_at.is_null()
_EXPIRED = _KEY.expires_at <= NOW
IN_FORCE = _NOT_REVOKED & (_KEY.expires_at.is_null() | (_KEY.expires_at > NOW))

_REVOKE_EXPIRED = compiled(
    _KEY.update({_KEY.revoked_at: NOW}).where(_KEY.name == param("name"), _NOT_REVOKED, _EXPIRED)
)
_ADD = compiled(
    _KEY.insert(
        {
            _KEY.id: param("id"),
            _KEY.name: param("name"),
            _KEY.secret_sha256: param("digest"),
            _KEY.role: param("role"),
            _KEY.expires_at: fn.now() + param("lasts").cast("interval"),
        }
    ).returning(_KEY.id, _KEY.name, _KEY.expires_at)
)
_LIST = compiled(
    _KEY.select(
        _KEY.id,
        _KEY.name,
        fn.coalesce(_KEY.role, "admin").alias("role"),
        _KEY.created_at,
        _KEY.expires_at,
        _KEY.last_used_at,
        Case(None, [(IN_FORCE, "active"), (_NOT_REVOKED, "expired")], "revoked").alias("state"),
    ).order_by(_KEY.id.desc())  # UUIDv7: ids sort by age
)
_REVOKE = compiled(
    _KEY.update({_KEY.revoked_at: NOW})
    .where(_NOT_REVOKED, (_KEY.name == param("name")) | (_KEY.id.cast("text") == param("name")))
    .returning(_KEY.id, _KEY.name)
)
_FIND = compiled(
    _KEY.select(
        *(_KEY.id, _KEY.name, _KEY.role),
        fn.date_part("epoch", _KEY.expires_at - NOW).alias("seconds_left"),
    ).where(_KEY.secret_sha256 == param("digest"), IN_FORCE)
)
# At most once a minute: enough to see which keys are in use, without a write per request.
_RECORD_USE = compiled(
    _KEY.update({_KEY.last_used_at: NOW}).where(
        _KEY.secret_sha256 == param("digest"),
        _KEY.last_used_at.is_null() | ~_KEY.last_used_at.between(NOW - MINUTE, NOW),
    )
)
# ``least`` ignores NULL: a key that was never revoked counts from its expiry, and one that does neither is kept.
_PURGE = compiled(delete_from(_KEY).where(fn.least(_KEY.revoked_at, _KEY.expires_at) < NOW - KEEP_DAYS * DAY))


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret.

    Attributes:
        state: ``active``, ``expired`` or ``revoked``.
        last_used_at: to the minute; None where it has not been used.
    """

    id: UUID
    name: str
    role: Role
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key with its secret, to be shown once."""

    id: UUID
    name: str
    role: Role
    secret: str
    expires_at: datetime | None

    def __repr__(self) -> str:
        # Without the secret, which a dataclass's own would print into logs and tracebacks.
        return f"NewKey(name={self.name!r})"


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who presented a valid key.

    Attributes:
        seconds_left: until the key expires, by the database's clock; None if it does not.
    """

    id: UUID
    name: str
    role: Role
    seconds_left: float | None

    @property
    def actor(self) -> Actor:
        """The holder as the actor of changes."""
        return Actor(f"key:{self.name}", self.role, str(self.id), self.id)


def create_key(name: str, *, actor: Actor, role: Role | None = None, lasts: timedelta | None = None) -> NewKey:
    """Create a key.

    Args:
        name: who will use it; shown as the actor of the changes that are made with it.
        actor: who creates it.
        role: what its holder may do. Without one it is an admin's, and works with the build before as well.
        lasts: for how long it is valid, None for ever.

    Raises:
        InvalidInput: the name contains other characters, is too long, or is a key itself.
        Conflict: a valid key has that name.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput("a key's name is 1 to 64 letters, digits or . _ @ -, the first a letter or a digit")
    _refuse_secret(name)
    secret = _new_secret(WITH_ROLE if role else WITHOUT_ROLE)
    try:
        with transaction():
            # A partial index cannot depend on the time, so the unique index on names covers expired keys, too: revoke
            # an expired key, or its name could not be used again.
            execute(_REVOKE_EXPIRED, name=name)
            made = row(_ADD, id=uuid7(), name=name, digest=_digest(secret), role=role, lasts=lasts)
            assert made is not None
            until = made["expires_at"]
            data = {"id": str(made["id"]), "role": role or "admin", "expires_at": until.isoformat() if until else None}
            record(actor, "key.create", f"key:{name}", data=data)
    except IntegrityError as error:
        raise Conflict(f"there is a key named {name} already: revoke it, or choose another name") from error
    return NewKey(made["id"], made["name"], role or "admin", secret, made["expires_at"])


def list_keys() -> tuple[ApiKey, ...]:
    """Return every key, newest first."""
    with transaction():
        found = rows(_LIST)
    return tuple(ApiKey(**each) for each in found)


def revoke_key(name: str, *, actor: Actor) -> None:
    """Revoke a key. An API process that has just accepted it may continue to accept it for some seconds.

    Args:
        name: its name, or its id.
        actor: who revokes it.

    Raises:
        InvalidInput: the key itself was given.
        NotFound: there is no key with that name or id, or it is revoked already.
    """
    _refuse_secret(name)
    with transaction():
        revoked = row(_REVOKE, name=name)
        if revoked is None:
            raise NotFound(f"there is no key {name} that could be revoked; keys list shows those there are")
        record(actor, "key.revoke", f"key:{revoked['name']}", data={"id": str(revoked["id"])})


def find_key(secret: str) -> KeyHolder | None:
    """Return who holds the valid key with this secret, and record its use; None if there is no such key.

    Raises:
        DatabaseUnavailable: the key could not be checked.
    """
    if not could_be_key(secret):
        return None
    digest = _digest(secret)
    try:
        with transaction(durable=False):
            found = row(_FIND, digest=digest)
            if found is None:
                return None
            execute(_RECORD_USE, digest=digest)
    except ProgrammingError:
        return None  # a database that is not migrated yet has no keys
    # A rollback of the schema, and its repetition, lose the roles: a key that had one must not become an admin's.
    role = found["role"] or ("admin" if len(secret) == len(PREFIX) + WITHOUT_ROLE else None)
    return KeyHolder(found["id"], found["name"], role, found["seconds_left"]) if role in ROLES else None


def could_be_key(secret: str) -> bool:
    """Return whether a text has the form of a key; any other text is refused without a query."""
    return SHAPE.fullmatch(secret) is not None and not is_mistyped(secret)


def is_mistyped(text: str) -> bool:
    """Return whether a text has the form of a key but cannot be one: a key that was copied in part or typed wrong.

    False for every key without a role, because older ones have no checksum.
    """
    long = len(text) == len(PREFIX) + WITH_ROLE and SHAPE.fullmatch(text) is not None
    return long and text[-CHECKSUM:] != _checksum(text[:-CHECKSUM])


def _refuse_secret(name: str) -> None:
    # Names are shown in lists, errors and timelines.
    if SHAPE.fullmatch(name):
        raise InvalidInput("this is a key and not the name of one: keys list shows the names")


def purge_old_keys() -> int:
    """Delete keys that were revoked, or expired, more than 30 days ago; return how many."""
    with transaction(durable=False):
        return execute(_PURGE)


def _new_secret(length: int) -> str:
    random = PREFIX + secrets.token_urlsafe(length)[: length - CHECKSUM]
    return random + _checksum(random)


def _checksum(text: str) -> str:
    """Return the CRC-32 of a text in base 62, as GitHub's tokens have it."""
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM):
        value, digit = divmod(value, len(BASE62))
        digits = BASE62[digit] + digits
    return digits


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
