"""Errors of pages: as pages for browsers, and as the API's problems for everybody else."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from api.http.problems import PROBLEM_TYPE, Handler, problem_middleware
from api.ui.kept_forms import KeptForm, form_of
from api.ui.places import SIGN_IN, sign_in_first
from api.ui.rendering import page, wants_fragment

# What a person can do about it, by the status; the detail says what is wrong.
ADVICE = {
    403: "Somebody with a key for it can do this, or an operator gives yours another role.",
    404: "It may have been deleted, or the address has a typing error.",
    409: "Look at the newest state first, and then decide again.",
    413: "Go back in the browser: it still has what you typed. Shorten it there.",
    429: "Nothing is lost. Wait that long, and then try again.",
    500: "Try again. If that does not help, give an operator the number of the request.",
    503: "Nothing is lost. Wait a moment, and then try again.",
}
# After these the same form may succeed.
WORTH_SENDING_AGAIN = frozenset({408, 409, 429, 500, 503})


def accepts_pages(request: web.Request) -> bool:
    """Return whether a response may be a page."""
    return "text/html" in request.headers.get("Accept", "")


async def show_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error that a handler raises into a page; who is not signed in gets to sign in first."""
    response = await problem_middleware(request, handler)
    if response.content_type != PROBLEM_TYPE or not accepts_pages(request):
        return response
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    problem = json.loads(response.body)
    if wants_fragment(request):
        return _trouble(problem)
    kept = await form_of(request) if response.status in {401, *WORTH_SENDING_AGAIN} else None
    if response.status == 401:
        return sign_in_first(request) if kept is None else _sign_in_and_send(kept)
    headers = {name: value for name, value in response.headers.items() if name in ("Retry-After", "Allow")}
    advice = ADVICE.get(response.status)
    return page("error.html", status=response.status, headers=headers, problem=problem, advice=advice, kept=kept)


def _sign_in_and_send(kept: KeptForm) -> web.Response:
    return page("sign_in.html", status=401, headers={"WWW-Authenticate": "Bearer"}, target=None, kept=kept, wrong=False)


def _trouble(problem: dict[str, Any]) -> web.Response:
    """Return a line that htmx shows on the page that is open, which stays as it was."""
    headers = {"HX-Retarget": "#trouble", "HX-Reswap": "innerHTML"}
    return page("trouble.html", headers=headers, status=problem["status"], problem=problem, sign_in=SIGN_IN)
