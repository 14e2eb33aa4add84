"""Routes of sessions: list them and end them. Only the sign-in page opens one."""

from __future__ import annotations

from api.http.cursors import Cursor
from api.operations.call import Call
from api.operations.command import command
from api.operations.operation import JsonResponse
from api.operations.pages import PageOut
from api.operations.query import query
from api.schemas.sessions import EndedOut, SessionOut, SessionPath, SessionsQuery
from vm_webapp.access import sessions
from vm_webapp.access.sessions import SessionRecord
from vm_webapp.db.paging import Page
from vm_webapp.db.unit_of_work import after_commit


@query(
    "/sessions", PageOut[SessionOut], role="viewer", summary="The own sessions in browsers; for an admin those of all"
)
def list_sessions(call: Call, query: SessionsQuery) -> Page[SessionRecord]:
    """List a page."""
    return sessions.list_sessions(
        call.actor,
        call.services.sessions.rules,
        everybody=query.all,
        limit=query.limit,
        after=Cursor.position(query.cursor),
    )


@command("POST", "/sessions/{session_id}/end", role="viewer", summary="End a session: an own one, or any as an admin")
def end_session(call: Call, path: SessionPath) -> JsonResponse[EndedOut]:
    """End the session; one that has ended stays as it is."""
    sessions.end_session(path.session_id, actor=call.actor)
    after_commit(call.services.sessions.forget_all)
    return JsonResponse(EndedOut(ended=1))


@command("POST", "/sessions/end", role="viewer", summary="Sign out everywhere: end every session of the caller's key")
def end_own_sessions(call: Call) -> JsonResponse[EndedOut]:
    """End the sessions."""
    ended = sessions.end_own_sessions(call.actor)
    after_commit(call.services.sessions.forget_all)
    return JsonResponse(EndedOut(ended=ended))
