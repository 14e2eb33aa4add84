"""The page of API keys: make one, whose secret is shown once, and revoke one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.services import services
from api.ui.forms import read_known_fields
from api.ui.places import KEYS, see_other
from api.ui.rendering import site_page
from api.ui.sent_once import ONCE, Sent, new_token, send_once
from vm_webapp.access.keys import NewKey, create_key, list_keys, revoke_key
from vm_webapp.access.roles import ROLES, Role
from vm_webapp.errors import Conflict, InvalidInput, NotFound
from vm_webapp.text import is_storable, sentence, storable

DAYS = (30, 90, 365)
MOST_SHOWN = 200


async def show_keys(request: web.Request) -> web.Response:
    """Show all keys and the form for a new one."""
    require(request, "admin")
    return await _page(request)


async def make_key(request: web.Request) -> web.Response:
    """Make a key and show its secret, which no page shows again."""
    require(request, "admin")
    form = await read_known_fields(request, {"name", "role", "lasts", ONCE})
    actor, name, role, lasts = request[ACTOR], form.get("name", "").strip(), form.get("role", ""), form.get("lasts", "")
    wrong: dict[str, str] = {}
    if role not in ROLES:
        wrong["role"] = "Pick a role of the list."
    if lasts not in ("", *map(str, DAYS)):
        wrong["lasts"] = "Pick a time of the list."
    if not is_storable(name):
        wrong["name"] = "A name is 1 to 64 letters, digits or . _ @ -, the first a letter or a digit."
    if wrong:
        return await _page(request, form, wrong=wrong, status=422)

    made: list[NewKey] = []

    def effect() -> str:
        duration = timedelta(days=int(lasts)) if lasts else None
        made.append(create_key(name, actor=actor, role=cast(Role, role), lasts=duration))
        return f"{KEYS}#{name}"

    try:
        sent = await send_once(request, form, effect)
    except (InvalidInput, Conflict) as error:
        return await _page(request, form, wrong={"name": sentence(str(error))}, status=422)
    if not made:
        return await _sent_before(request, form, sent)
    # No redirect: the secret is in this response and nowhere else.
    return await _page(request, made=made[0], status=201)


async def _sent_before(request: web.Request, form: Mapping[str, str], sent: Sent) -> web.Response:
    name = sent.location.partition("#")[2]
    if sent.is_other:
        trouble = (
            f"This form has made the key of {name} already, so nothing was made now. Send it again for another key."
        )
        return await _page(request, form, trouble=trouble, status=409)
    trouble = (
        f"The key of {name} is made, once. Its secret was in the answer to the first click, which this page has"
        f" replaced, and no page can show it again. If you have not copied it: revoke {name} below, and make a new key."
    )
    return await _page(request, trouble=trouble, status=409)


async def end_key(request: web.Request) -> web.Response:
    """Revoke a key."""
    require(request, "admin")
    await read_known_fields(request, {ONCE})
    id, actor = request.match_info["id"], request[ACTOR]
    if not is_storable(id):
        raise NotFound("there is no such key")
    try:
        await services(request).threads.run(lambda: revoke_key(id, actor=actor))
    except (NotFound, InvalidInput):
        return await _page(request, trouble="There is no such key any more that could be revoked.", status=404)
    return see_other(KEYS)


async def _page(
    request: web.Request,
    form: Mapping[str, str] | None = None,
    *,
    wrong: Mapping[str, str] | None = None,
    made: NewKey | None = None,
    trouble: str = "",
    status: int = 200,
) -> web.Response:
    def read() -> Mapping[str, Any]:
        found = list_keys()
        active = [each for each in found if each.state == "active"]
        return {"active": active[:MOST_SHOWN], "ended": [each for each in found if each.state != "active"][:MOST_SHOWN]}

    kept = {name: storable(text) for name, text in (form or {}).items() if name != ONCE}
    return await site_page(
        request,
        "keys.html",
        read,
        status=status,
        values={"name": "", "role": "editor", "lasts": "90"} | kept,
        wrong=wrong or {},
        opened=bool(form),
        once=new_token(),
        made=made,
        trouble=trouble,
        roles=ROLES,
        days=DAYS,
    )
