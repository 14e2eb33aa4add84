"""The page that forks a run: a new run takes over what was written before a stage, and goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from api.auth.actors import require
from api.operations.call import Call
from api.operations.inputs import read_path
from api.schemas.runs import MAX_REQUEST_CHARACTERS, RunPath
from api.ui.forms import read_known_fields
from api.ui.places import RUN, see_other
from api.ui.rendering import site_page
from api.ui.run import forkable_from
from api.ui.sent_once import ONCE, new_token, send_once
from vm_webapp.access.run_quota import QuotaExceeded
from vm_webapp.errors import Conflict, InvalidInput
from vm_webapp.runs import lifecycle, queries
from vm_webapp.text import UNSTORABLE, is_storable, storable

FIELDS = frozenset({"from_stage", "request", "refresh_context", ONCE})


async def show_fork(request: web.Request) -> web.Response:
    """Show the form; ``from_stage`` in the query chooses the stage."""
    require(request, "editor")
    return await _form(request, {"from_stage": request.query.get("from_stage", "")})


async def fork_run(request: web.Request) -> web.Response:
    """Create the new run, and go to its page; show the form again, with what is wrong, if something is."""
    require(request, "editor")
    values = await read_known_fields(request, FIELDS)
    run_id, call = read_path(RunPath, request).run_id, Call.of(request)

    def effect() -> str:
        forked = lifecycle.fork_run(
            run_id,
            from_stage=values.get("from_stage", ""),
            request=values["request"].strip(),
            actor=call.actor,
            refresh_context="refresh_context" in values,
            quota=call.run_quota,
        )
        return RUN.format(run_id=forked.id)

    try:
        _check(values)
        sent = await send_once(request, values, effect)
    except (InvalidInput, Conflict, QuotaExceeded) as error:
        kept = {name: storable(value) for name, value in values.items()}
        return await _form(request, kept, wrong=str(error), status=error.http_status)
    if sent.is_other:
        wrong = "This form has started a run already. Send it again to start another one."
        return await _form(request, values | {ONCE: new_token()}, wrong=wrong, earlier=sent.location, status=409)
    return see_other(sent.location)


def _check(values: Mapping[str, str]) -> None:
    """Check the request.

    Raises:
        InvalidInput: it is empty, too long or cannot be stored.
    """
    text = values.get("request", "").strip()
    if not all(map(is_storable, values.values())):
        raise InvalidInput(f"the request {UNSTORABLE}", pointer="/request")
    if not 1 <= len(text) <= MAX_REQUEST_CHARACTERS:
        raise InvalidInput(
            f"the request has {len(text):,} characters; it may have 1 to {MAX_REQUEST_CHARACTERS:,}", pointer="/request"
        )


async def _form(
    request: web.Request,
    values: Mapping[str, str],
    *,
    wrong: str | None = None,
    earlier: str | None = None,
    status: int = 200,
) -> web.Response:
    run_id = read_path(RunPath, request).run_id

    def read() -> Mapping[str, Any]:
        run = queries.read_run(run_id)
        return {
            "run": run,
            "origin": queries.read_origin(run_id),
            "choices": [stage for stage in run.stages if stage.key in forkable_from(run)],
            "values": {"request": run.request, **values},
        }

    return await site_page(
        request,
        "fork.html",
        read,
        status=status,
        wrong=wrong,
        earlier=earlier,
        once=values.get(ONCE) or new_token(),
        most=MAX_REQUEST_CHARACTERS,
    )
