"""The buttons of a run's page: cancel it, and put a failed one back to work."""

from __future__ import annotations

from collections.abc import Callable

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

RETRY_STAGE = "from_stage"


async def cancel_run(request: web.Request) -> web.Response:
    """Cancel a run."""
    run_id, actor = read_path(RunPath, request).run_id, request[ACTOR]
    return await _change(request, lambda _: lifecycle.cancel_run_if_open(run_id, actor=actor))


async def retry_run(request: web.Request) -> web.Response:
    """Queue a failed run again, from the stage that failed or from an earlier one."""
    run_id, actor = read_path(RunPath, request).run_id, request[ACTOR]
    return await _change(
        request,
        lambda fields: lifecycle.retry_run_if_failed(run_id, from_stage=fields.get(RETRY_STAGE), actor=actor),
    )


async def _change(request: web.Request, change: Callable[[dict[str, str]], object]) -> web.Response:
    """Make a change, and go to the page of the run; show why if the run is no longer as it was on the page."""
    require(request, "editor")
    fields = await read_form(request)
    if not all(map(is_storable, fields.values())):
        raise RequestError(400, "malformed_form", f"the form {UNSTORABLE}")
    run_id = read_path(RunPath, request).run_id
    page = RUN.format(run_id=run_id)

    def effect() -> str:
        change(fields)
        return page

    try:
        await send_once(request, fields, effect)
    except Conflict as error:
        return await run_page(request, run_id, status=error.http_status, problem=f"Nothing has changed: {error}.")
    return see_other(page)
