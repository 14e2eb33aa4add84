"""The buttons that pause and resume the queue and providers."""

from __future__ import annotations

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.problems import RequestError
from api.services import services
from api.ui.forms import read_known_fields
from api.ui.operations.overview import operations_page
from api.ui.places import OPERATIONS, see_other
from api.ui.sent_once import ONCE
from vm_webapp.ops import queue_control
from vm_webapp.text import UNSTORABLE, is_storable

LONGEST_REASON = 500


async def pause_queue(request: web.Request) -> web.Response:
    """Pause the queue."""
    reason = await _read_reason(request)
    if len(reason) > LONGEST_REASON:
        return await _too_long(request, reason)
    actor = request[ACTOR]
    await services(request).threads.run(lambda: queue_control.pause_queue(reason=reason or None, actor=actor))
    return see_other(OPERATIONS)


async def resume_queue(request: web.Request) -> web.Response:
    """Resume the queue."""
    await _read_reason(request)
    actor = request[ACTOR]
    await services(request).threads.run(lambda: queue_control.resume_queue(actor=actor))
    return see_other(OPERATIONS)


async def pause_provider(request: web.Request) -> web.Response:
    """Pause a provider."""
    reason = await _read_reason(request)
    if len(reason) > LONGEST_REASON:
        return await _too_long(request, reason)
    name, actor = request.match_info["name"], request[ACTOR]
    await services(request).threads.run(lambda: queue_control.pause_provider(name, reason=reason, actor=actor))
    return see_other(OPERATIONS)


async def resume_provider(request: web.Request) -> web.Response:
    """Resume a provider."""
    await _read_reason(request)
    name, actor = request.match_info["name"], request[ACTOR]
    await services(request).threads.run(lambda: queue_control.resume_provider(name, actor=actor))
    return see_other(OPERATIONS)


async def _read_reason(request: web.Request) -> str:
    require(request, "operator")
    reason = (await read_known_fields(request, {"reason", ONCE})).get("reason", "").strip()
    if not is_storable(reason) or not is_storable(request.match_info.get("name", "")):
        raise RequestError(400, "malformed_form", f"the form {UNSTORABLE}")
    return reason


async def _too_long(request: web.Request, reason: str) -> web.Response:
    said = f"Nothing has changed: a reason has at most {LONGEST_REASON} characters, and this has {len(reason):,}."
    return await operations_page(request, status=422, trouble=said)
