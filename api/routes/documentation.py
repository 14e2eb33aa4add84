"""The routes of the documentation: its pages, and what each type of problem means."""

from __future__ import annotations

import re
from functools import partial

from aiohttp import web

from api.docs.pages import NAMES, show_page, show_problem
from api.http.addresses import is_https
from api.http.problem_types import PROBLEM_TYPES
from api.operations.headers import VARY
from api.operations.operation import PREFIX, JsonResponse, operation
from api.routes.description import DESCRIPTION
from api.schemas.documentation import PagePath
from api.schemas.problem_types import ProblemTypeOut, ProblemTypePath
from api.services import services
from vm_webapp.errors import NotFound

# The page has commands to copy: only what can be nothing but a host may stand in them.
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
PAGE = "text/html"
_SIGN_IN_FIRST = {303: "For a browser in which nobody is signed in: to the page where one signs in."}
_page_at = partial(operation, "GET", role="viewer", media_type=PAGE, also=(303,), meanings=_SIGN_IN_FIRST)


@_page_at("/docs", summary="How to use this API: from a key to a finished run in five requests")
async def read_first_page(request: web.Request) -> web.Response:
    """Return the first page of the documentation, which leads to the others."""
    return await _page(request, "")


@_page_at("/docs/{page}", summary="Another page of the documentation")
async def read_page(request: web.Request, path: PagePath) -> web.Response:
    """Return a page."""
    if path.page not in NAMES:
        raise NotFound(f"there is no page {path.page}; there are {', '.join(sorted(NAMES))}")
    return await _page(request, path.page)


@operation(
    "GET",
    "/problems/{name}",
    prefix="",
    role=None,
    summary="What a type of problem means, and what to do about it",
    tag="docs",
    returns=(VARY,),
    alternatives={PAGE: {"type": "string"}},
    errors=(401,),
)
async def read_problem_type(request: web.Request, path: ProblemTypePath) -> JsonResponse[ProblemTypeOut] | web.Response:
    """Return the entry of a type as JSON, or with ``Accept: text/html`` as a page. It needs no credentials."""
    found = PROBLEM_TYPES.get(path.name)
    if found is None:
        raise NotFound(f"there is no type of problem {path.name}")
    headers = {VARY.name: "Accept"}
    if PAGE in request.headers.get("Accept", ""):
        return web.Response(text=show_problem(found), content_type=PAGE, headers=headers)
    return JsonResponse(ProblemTypeOut.model_validate(found), headers=headers)


async def _page(request: web.Request, name: str) -> web.Response:
    host = request.host if HOST.fullmatch(request.host) else "localhost"
    base = f"http{'s' if is_https(request) else ''}://{host}{PREFIX}"
    describe = request.app[DESCRIPTION]
    # On a thread: the longest page takes a while when it is rendered for the first time.
    text = await services(request).threads.run(lambda: show_page(name, base=base, description=describe()))
    return web.Response(text=text, content_type=PAGE)
