"""Which keys and sessions are in force, for callers who were admitted a while ago."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from vm_webapp.access.sessions import SessionRules
from vm_webapp.db.pool import autocommit, rows
from vm_webapp.db.prepared import Prepared

# A caller without a key holds a session of VM_API_TOKEN.
_IN_FORCE = Prepared("""
    SELECT key_id, session_id
      FROM unnest(%(keys)s::uuid[], %(sessions)s::uuid[]) AS caller (key_id, session_id)
     WHERE (key_id IS NULL
            OR EXISTS (SELECT FROM api_keys WHERE id = key_id AND revoked_at IS NULL
                          AND (expires_at IS NULL OR expires_at > clock_timestamp())))
       AND (session_id IS NULL
            OR EXISTS (SELECT FROM sessions WHERE id = session_id AND ended_at IS NULL
                          AND last_seen_at + %(idle)s > clock_timestamp() AND created_at + %(lasts)s > clock_timestamp()
                          AND (token_sha256 IS NULL OR token_sha256 = %(token)s)))
""")


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
    asked = list(callers)
    with autocommit():
        found = rows(
            _IN_FORCE,
            keys=[key for key, _ in asked],
            sessions=[session for _, session in asked],
            **rules.parameters(),
        )
    return {(each["key_id"], each["session_id"]) for each in found}
