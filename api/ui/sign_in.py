"""The sign-in page: a key, or the value of ``VM_API_TOKEN``, opens a session."""

from __future__ import annotations

from aiohttp import web

from api.auth.forgery import refuse_forged
from api.auth.refusals import note_refusal
from api.http.addresses import client_address
from api.services import services
from api.ui.forms import read_form
from api.ui.kept_forms import KeptForm, carried_in
from api.ui.places import local_path, see_other
from api.ui.rendering import page


async def ask_for_key(request: web.Request) -> web.Response:
    """Show the form."""
    services(request).sessions.refuse_plain_http(request)
    return _form(local_path(request.query.get("next")))


async def sign_in(request: web.Request) -> web.Response:
    """Open a session, and go on to where the browser came from."""
    own = services(request).sessions
    own.refuse_plain_http(request)
    # Another site could otherwise sign a person in with its own key, and read what the person then enters.
    refuse_forged(request, secure=own.cookie(request).secure)
    form = await read_form(request)
    await services(request).sign_in_limit.admit_sign_in(client_address(request))
    target, kept = local_path(form.get("next")), carried_in(form)
    response = see_other(target) if kept is None else page("signed_in_again.html", kept=kept)
    # A key that was pasted often brings a space or a line end.
    if await own.sign_in(request, form.get("key", "").strip(), response):
        return response
    note_refusal(request, "wrong_key")
    # The same words whatever is wrong with it: unknown, mistyped, revoked or expired.
    return _form(target, status=401, headers={"WWW-Authenticate": "Bearer"}, wrong=True, kept=kept)


def _form(
    target: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    wrong: bool = False,
    kept: KeptForm | None = None,
) -> web.Response:
    return page("sign_in.html", status=status, headers=headers, target=target, wrong=wrong, kept=kept)
