"""Models of sessions."""

from __future__ import annotations

from uuid import UUID

from api.http.values import Flag, Moment
from api.operations.models import Input, Output
from api.operations.pages import PageQuery
from vm_webapp.access.roles import Role


class SessionOut(Output):
    """A browser in which somebody is signed in; ``ends_at`` is when it ends if it sends nothing more."""

    id: UUID
    actor: str
    role: Role
    created_at: Moment
    last_seen_at: Moment
    ends_at: Moment
    address: str | None
    user_agent: str | None


class SessionsQuery(PageQuery):
    """Which page; an admin may ask for the sessions of all."""

    all: Flag = False


class SessionPath(Input):
    """A session."""

    session_id: UUID


class EndedOut(Output):
    """How many sessions have ended."""

    ended: int
