"""Errors of pages: as pages for browsers, and as the API's problems for everybody else."""

from __future__ import annotations

import json

from aiohttp import web

from api.http.problems import PROBLEM_TYPE, Handler, problem_middleware
from api.ui.places import sign_in_first
from api.ui.rendering import page


def accepts_pages(request: web.Request) -> bool:
    """Return whether a response may be a page."""
    return "text/html" in request.headers.get("Accept", "")


async def show_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error that a page's handler raises into a page; who is not signed in gets to sign in first."""
    response = await problem_middleware(request, handler)
    if response.content_type != PROBLEM_TYPE or not accepts_pages(request):
        return response
    if response.status == 401:
        return sign_in_first(request)
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    problem = json.loads(response.body)
    kept = {name: value for name, value in response.headers.items() if name in ("Retry-After", "Allow")}
    return page("error.html", status=response.status, headers=kept, problem=problem)
