"""The actor of a change: who makes it, in which role, and from where."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from uuid import UUID

from vm_webapp.access.roles import Role

TOKEN_ID = "token"  # noqa: S105 - the name of whoever holds the token


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change.

    Attributes:
        name: what timelines show: ``admin`` for the holder of ``VM_API_TOKEN``, ``key:ann``, ``local`` for callers of
            an API that asks for no credentials, ``cli:ann`` for commands.
        role: what the actor may do.
        id: tells one person from another, which names cannot: a name is free again when its key is revoked. The id of
            the key, or ``token`` for whoever holds ``VM_API_TOKEN``; None for somebody who is not known.
        key_id: the key that was presented, or with which the session was opened.
        session_id: the browser's session, if there is one.
        address: where the request came from.
        request_id: the request that asks for the change.
    """

    name: str
    role: Role = "admin"
    id: str | None = None
    key_id: UUID | None = None
    session_id: UUID | None = None
    address: str | None = None
    request_id: str | None = None


HOLDER_OF_TOKEN = Actor("admin", "admin", TOKEN_ID)  # whoever presents VM_API_TOKEN


def operator_at_terminal() -> Actor:
    """Return the user of this machine who runs a command."""
    try:
        return Actor(f"cli:{getpass.getuser()}")
    except (KeyError, OSError):  # the uid has no name, as in many containers
        return Actor("cli")
