"""Errors of pages: as pages for browsers, and as the API's problems for everybody else."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from api.http.problems import PROBLEM_TYPE, Handler, problem_middleware
from api.ui.kept_forms import KeptForm, form_of
from api.ui.places import SIGN_IN, sign_in_first
from api.ui.rendering import page, wants_fragment

# A title in plain words and what a person can do about it, by the status; the problem's detail says what is wrong.
WORDS = {
    403: ("You may not do this", "Ask somebody who has that role, or an admin for a key with it."),
    404: ("Not found", "It may have been deleted, or the address has a typing error."),
    405: ("There is nothing to read here", "A form is sent to this address. Go back to the page with the form."),
    409: ("Something has changed", "Look at the newest state first, and then decide again."),
    413: ("This is too much text", "Go back in the browser: it still has what you typed. Shorten it there."),
    429: ("Too many requests", "Nothing is lost. Wait that long, and then try again."),
    500: ("Something went wrong", "Try again. If that does not help, give an operator the number of the request."),
    503: ("This cannot be done just now", "Nothing is lost. Wait a moment, and then try again."),
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
    title, advice = WORDS.get(response.status, (problem["title"], None))
    told = {"title": title, "advice": advice, "problem": problem, "kept": kept}
    return page("error.html", status=response.status, headers=headers, **told)


def _sign_in_and_send(kept: KeptForm) -> web.Response:
    return page("sign_in.html", status=401, headers={"WWW-Authenticate": "Bearer"}, target=None, kept=kept, wrong=False)


def _trouble(problem: dict[str, Any]) -> web.Response:
    """Return a line that htmx shows on the page that is open, which stays as it was."""
    headers = {"HX-Retarget": "#trouble", "HX-Reswap": "innerHTML"}
    return page("trouble.html", headers=headers, status=problem["status"], problem=problem, sign_in=SIGN_IN)
