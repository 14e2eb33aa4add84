"""The stream that tells an open page to read itself again."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR
from api.http.problems import RequestError
from api.http.request_metrics import HELD
from api.services import services
from api.streams.change_stream import stream_changes


async def follow_changes(request: web.Request) -> web.StreamResponse:
    """Stream hints until the client leaves; with ``run`` in the query, what that run's model writes as well."""
    own, run_id = services(request), _run_in(request)
    request[HELD] = True
    with own.open_streams.hold(request[ACTOR]) as held:
        return await stream_changes(request, changes=own.changes, held=held, followers=own.followers, run_id=run_id)


def _run_in(request: web.Request) -> UUID | None:
    given = request.query.get("run")
    try:
        return UUID(given) if given else None
    except ValueError:
        raise RequestError(404, "not_found", "there is no such run") from None
