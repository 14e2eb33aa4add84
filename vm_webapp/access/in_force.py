"""Which keys and sessions are in force, for callers who were admitted a while ago."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from peewee import JOIN, fn

from vm_webapp.access.keys import IN_FORCE
from vm_webapp.access.sessions import LIVE, SessionRules
from vm_webapp.db.compiled import compiled, param
from vm_webapp.db.models import ApiKey, Session
from vm_webapp.db.pool import rows, transaction

_IDS = fn.ANY(param("ids").cast("uuid[]"))
_KEYS = compiled(ApiKey.select(ApiKey.id).where(ApiKey.id == _IDS, IN_FORCE))
_SESSIONS = compiled(Session.select(Session.id).join(ApiKey, JOIN.LEFT_OUTER).where(Session.id == _IDS, LIVE))


def find_in_force(
    callers: Collection[tuple[UUID | None, UUID | None]], rules: SessionRules
) -> set[tuple[UUID | None, UUID | None]]:
    """Return those of some callers whose key is neither revoked nor expired, and whose session has not ended.

    Args:
        callers: the key and the session of each, None where there is none.
        rules: what decides how long a session goes on.

    Raises:
        DatabaseUnavailable: they could not be checked.
    """
    keys = [key for key, _ in callers if key is not None]
    sessions = [session for _, session in callers if session is not None]
    with transaction(durable=False):
        valid = {each["id"] for each in rows(_KEYS, ids=keys)}
        live = {each["id"] for each in rows(_SESSIONS, ids=sessions, **rules.parameters())}
    # A caller without a key holds a session of VM_API_TOKEN.
    return {
        (key, session)
        for key, session in callers
        if (key is None or key in valid) and (session is None or session in live)
    }
