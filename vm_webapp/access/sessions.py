"""Sessions of browsers: opened with a key or with ``VM_API_TOKEN``; ended by a person, by a limit or with the key.

The browser holds a secret of 256 random bits, the database its SHA-256. Whether the key is in force, and which role it
has, is read at each lookup, so that a session never outlives its key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from peewee import JOIN, ProgrammingError, Tuple, fn
from uuid_utils.compat import uuid7

from vm_webapp.access.actor import HOLDER_OF_TOKEN, TOKEN_ID, Actor
from vm_webapp.access.audit import record, record_all
from vm_webapp.access.keys import IN_FORCE, KeyHolder, find_key
from vm_webapp.access.roles import Role, includes
from vm_webapp.access.tokens import digest_of_token, is_token
from vm_webapp.db import models
from vm_webapp.db.compiled import NOW, compiled, delete_from, param
from vm_webapp.db.paging import Page, page_of
from vm_webapp.db.pool import Row, execute, row, rows, transaction
from vm_webapp.errors import NotFound, VMError
from vm_webapp.settings import LONGEST_SESSION, Settings
from vm_webapp.text import storable

PREFIX = "vms_"
SHAPE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
LONGEST_USER_AGENT = 256  # characters
MINUTE = timedelta(minutes=1)

_SESSION, _KEY = models.Session, models.ApiKey
_ENDS_AT = fn.least(  # ignores NULL: a key may have no expiry
    _SESSION.last_seen_at + param("idle"), _SESSION.created_at + param("lasts"), _KEY.expires_at
)
# IN_FORCE and not only the expiry: a session ends with its key, and with the token that has opened it.
LIVE = (
    _SESSION.ended_at.is_null()
    & (_SESSION.last_seen_at + param("idle") > NOW)
    & (_SESSION.created_at + param("lasts") > NOW)
    & ((_KEY.id.is_null(False) & IN_FORCE) | (_SESSION.token_sha256 == param("token")))
)
_OWN = (_SESSION.key == param("key_id")) | (param("of_token") & _SESSION.key.is_null())

_OPEN = compiled(
    _SESSION.insert(
        {
            _SESSION.id: param("id"),
            _SESSION.secret_sha256: param("digest"),
            _SESSION.key: param("key_id"),
            _SESSION.token_sha256: param("token"),
            _SESSION.address: param("address"),
            _SESSION.user_agent: param("user_agent"),
        }
    )
)
_FIND = compiled(
    _SESSION.select(
        _SESSION.id,
        _SESSION.key.alias("key_id"),
        _KEY.name,
        _KEY.role,
        fn.date_part("epoch", _ENDS_AT - NOW).alias("seconds_left"),
        (~_SESSION.last_seen_at.between(NOW - param("unnoted"), NOW)).alias("is_news"),
    )
    .join(_KEY, JOIN.LEFT_OUTER)
    .where(_SESSION.secret_sha256 == param("digest"), LIVE)
)
_NOTE_SEEN = compiled(_SESSION.update({_SESSION.last_seen_at: NOW}).where(_SESSION.id == param("id")))
_NOTE_KEY_USE = compiled(_KEY.update({_KEY.last_used_at: NOW}).where(_KEY.id == param("key_id")))
_EXISTS = compiled(_SESSION.select(_SESSION.id).where(_SESSION.id == param("id"), param("anyones") | _OWN))
_ENDING = _SESSION.update({_SESSION.ended_at: NOW}).where(_SESSION.ended_at.is_null())
_END = compiled(_ENDING.where(_SESSION.id == param("id"), param("anyones") | _OWN).returning(_SESSION.id))
_END_ALL = compiled(_ENDING.where(_OWN).returning(_SESSION.id))
_END_BY_SECRET = compiled(_ENDING.where(_SESSION.secret_sha256 == param("digest")).returning(_SESSION.id))
# By the longest limit that can be set: this process may have other limits than those that serve browsers.
_PURGE = compiled(delete_from(_SESSION).where(_SESSION.created_at < NOW - param("longest")))


class AdminsOnly(VMError):
    """Only an admin may see the sessions of others."""

    code = "forbidden"
    http_status = 403


@dataclass(frozen=True, slots=True)
class SessionRules:
    """What decides how long a session goes on.

    Attributes:
        idle: how long it goes on without a request.
        lasts: how long it goes on in any case.
        token: ``VM_API_TOKEN``, None if there is none. What another token has opened, has ended.
    """

    idle: timedelta
    lasts: timedelta
    token: str | None = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> SessionRules:
        """Return the rules of these settings."""
        return cls(settings.session_idle, settings.session_lasts, settings.api_token)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a statement that asks whether a session is live."""
        token = digest_of_token(self.token) if self.token else None
        return {"idle": self.idle, "lasts": self.lasts, "token": token}


@dataclass(frozen=True, slots=True)
class NewSession:
    """A new session with its secret, which goes into a cookie."""

    id: UUID
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that is live.

    Attributes:
        actor: the holder of the key, or of ``VM_API_TOKEN``, with which it was opened.
        seconds_left: until it ends if no request comes, by the database's clock.
    """

    actor: Actor
    seconds_left: float


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A live session as its owner or an admin sees it.

    Attributes:
        actor: what timelines show for what is done in it.
        last_seen_at: to the minute.
        ends_at: when it ends if no request comes.
        address: from where it was opened.
        user_agent: what the browser said it was when it was opened.
    """

    id: UUID
    actor: str
    role: Role
    created_at: datetime
    last_seen_at: datetime
    ends_at: datetime
    address: str | None
    user_agent: str | None


def open_session(
    secret: str,
    rules: SessionRules,
    *,
    address: str,
    user_agent: str,
    replaces: str | None = None,
    request_id: str | None = None,
) -> NewSession | None:
    """Open a session for whoever presents a key or the token; None if it is neither.

    Args:
        secret: what was presented.
        rules: the rules that are in force.
        address: where the request came from.
        user_agent: what the browser says it is.
        replaces: the secret of the browser's session until now, which ends: nobody who knew it is signed in with it.
        request_id: the request, for the audit trail.

    Raises:
        DatabaseUnavailable: nothing was opened.
    """
    by_token = is_token(secret, rules.token)
    holder = None if by_token else find_key(secret)
    if holder is None and not by_token:
        return None
    new = NewSession(uuid7(), PREFIX + secrets.token_urlsafe(32))
    token = digest_of_token(secret) if by_token else None
    actor = replace(holder.actor if holder else HOLDER_OF_TOKEN, address=address, request_id=request_id)
    with transaction():
        if replaces is not None and could_be_session(replaces):
            _record_ends(actor, rows(_END_BY_SECRET, digest=_digest(replaces)))
        execute(
            _OPEN,
            id=new.id,
            digest=_digest(new.secret),
            key_id=holder.id if holder else None,
            token=token,
            address=storable(address)[:LONGEST_USER_AGENT],
            user_agent=storable(user_agent)[:LONGEST_USER_AGENT],
        )
        record(actor, "session.open", f"session:{new.id}")
    return new


def find_session(secret: str, rules: SessionRules) -> OpenSession | None:
    """Return the live session with this secret, and note at most once a minute that it is used; None if there is none.

    Raises:
        DatabaseUnavailable: the session could not be checked.
    """
    if not could_be_session(secret):
        return None
    parameters = rules.parameters()
    # A short limit needs a finer trace than a minute.
    parameters |= {"digest": _digest(secret), "unnoted": min(MINUTE, rules.idle / 4)}
    try:
        with transaction(durable=False):
            found = row(_FIND, **parameters)
            if found is None:
                return None
            if found["is_news"]:
                execute(_NOTE_SEEN, id=found["id"])
                execute(_NOTE_KEY_USE, key_id=found["key_id"])
    except ProgrammingError:
        return None  # a database that is not migrated yet has no sessions
    return OpenSession(_actor(found), found["seconds_left"])


def list_sessions(
    actor: Actor, rules: SessionRules, *, everybody: bool, limit: int, after: tuple[datetime, UUID] | None
) -> Page[SessionRecord]:
    """Return one page of live sessions, newest first.

    Args:
        actor: who asks; by default the own sessions are listed, those of the same key or of ``VM_API_TOKEN``.
        rules: the rules that are in force.
        everybody: whether the sessions of all are listed.
        limit: most sessions of the page.
        after: ``(created_at, id)`` of the last session of the page before, None for the first page.

    Raises:
        AdminsOnly: ``everybody``, and the actor is no admin.
    """
    if everybody and not includes(actor.role, "admin"):
        raise AdminsOnly("the sessions of others are shown to admins; without all=true these are your own")
    query = (
        _SESSION.select(
            *(_SESSION.id, _SESSION.key.alias("key_id"), _KEY.name, _KEY.role, _SESSION.created_at),
            *(_SESSION.last_seen_at, _SESSION.address, _SESSION.user_agent, _ENDS_AT.alias("ends_at")),
        )
        .join(_KEY, JOIN.LEFT_OUTER)
        .where(LIVE, param("anyones") | _OWN)
        .order_by(_SESSION.created_at.desc(), _SESSION.id.desc())
        .limit(limit + 1)
    )
    if after is not None:
        query = query.where(Tuple(_SESSION.created_at, _SESSION.id) < Tuple(*after))
    statement = compiled(query)
    with transaction():
        found = rows(statement, anyones=everybody, **_own(actor), **rules.parameters())
    return page_of([_record(each) for each in found], limit, lambda record: (record.created_at, record.id))


def end_session(id: UUID, *, actor: Actor) -> None:
    """End a session; one that has ended stays as it is.

    Args:
        id: which one.
        actor: who ends it: its owner, or an admin.

    Raises:
        NotFound: there is none with this id, or it is somebody else's.
    """
    asked = {"id": id, "anyones": includes(actor.role, "admin"), **_own(actor)}
    with transaction():
        ended = rows(_END, **asked)
        if not ended and row(_EXISTS, **asked) is None:
            raise NotFound(f"there is no session {id} of yours; GET /sessions lists those there are")
        _record_ends(actor, ended)


def end_own_sessions(actor: Actor) -> int:
    """End every session of a person, this one included: sign out everywhere.

    Args:
        actor: whose; a caller without a key has none.

    Returns:
        How many were not ended yet.
    """
    with transaction():
        ended = rows(_END_ALL, **_own(actor))
        _record_ends(actor, ended)
    return len(ended)


def could_be_session(secret: str) -> bool:
    """Return whether a text has the form of a session's secret; any other text is refused without a query."""
    return SHAPE.fullmatch(secret) is not None


def purge_old_sessions() -> int:
    """Delete the sessions that were opened longer ago than any session may last; return how many."""
    with transaction(durable=False):
        return execute(_PURGE, longest=LONGEST_SESSION)


def _record_ends(actor: Actor, ended: list[Row]) -> None:
    if ended:
        record_all(actor, "session.end", [(f"session:{each['id']}", {}) for each in ended])


def _own(actor: Actor) -> dict[str, Any]:
    return {"key_id": actor.key_id, "of_token": actor.id == TOKEN_ID}


def _actor(found: Row) -> Actor:
    if found["key_id"] is None:
        return replace(HOLDER_OF_TOKEN, session_id=found["id"])
    role: Role = "admin" if found["role"] is None else found["role"]
    return replace(KeyHolder(found["key_id"], found["name"], role, None).actor, session_id=found["id"])


def _record(found: Row) -> SessionRecord:
    actor = _actor(found)
    shown = {name: found[name] for name in ("created_at", "last_seen_at", "ends_at", "address", "user_agent")}
    return SessionRecord(id=found["id"], actor=actor.name, role=actor.role, **shown)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
