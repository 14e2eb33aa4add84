"""What the buttons of a run's page share, and the one that cancels the run."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.problems import RequestError
from api.operations.inputs import read_path
from api.schemas.runs import RunPath
from api.ui.forms import read_form
from api.ui.places import RUN, see_other
from api.ui.run import run_page
from api.ui.sent_once import send_once
from vm_webapp.errors import Conflict
from vm_webapp.runs import lifecycle
from vm_webapp.text import UNSTORABLE, is_storable


async def cancel_run(request: web.Request) -> web.Response:
    """Cancel a run."""
    fields = await read_changes(request)
    run_id, actor = read_path(RunPath, request).run_id, request[ACTOR]

    def effect() -> str:
        lifecycle.cancel_run_if_open(run_id, actor=actor)
        return RUN.format(run_id=run_id)

    try:
        sent = await send_once(request, fields, effect)
    except Conflict as error:
        return await show_conflict(request, run_id, error)
    return see_other(sent.location)


async def read_changes(request: web.Request) -> dict[str, str]:
    """Return the fields of a form that changes a run, if this person may change one.

    Raises:
        RequestError: 400 for text that cannot be stored, and what ``read_form`` raises.
    """
    require(request, "editor")
    fields = await read_form(request)
    if not all(map(is_storable, fields.values())):
        raise RequestError(400, "malformed_form", f"the form {UNSTORABLE}")
    return fields


async def show_conflict(request: web.Request, run_id: UUID, error: Conflict) -> web.Response:
    """Return the page of a run that is no longer as it was on the page, with the reason why it was not changed."""
    return await run_page(request, run_id, status=error.http_status, problem=f"Nothing has changed: {error}.")
