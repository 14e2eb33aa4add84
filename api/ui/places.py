"""Where a browser is sent: to the sign-in page, and from there back to where it came from, never to another site."""

from __future__ import annotations

import re

from aiohttp import web
from yarl import URL

from api.operations.operation import PREFIX

HOME, ACCOUNT, SIGN_IN = "/", "/account", "/sign-in"
WORKSPACE = "/ui/"  # below it are the pages and forms of the workspace
RUNS, NEW_RUN, CHANGES = f"{WORKSPACE}runs", f"{WORKSPACE}runs/new", f"{WORKSPACE}changes"
RUN, DOCUMENT = f"{RUNS}/{{run_id}}", f"{RUNS}/{{run_id}}/documents/{{stage}}"
BRAND_PAGES, PROJECT_PAGES = f"{WORKSPACE}brands", f"{WORKSPACE}projects"
REVIEWS, REVIEW, PREVIEW = f"{WORKSPACE}reviews", f"{WORKSPACE}reviews/{{run_id}}/{{key}}", f"{WORKSPACE}preview"
OPERATIONS = f"{WORKSPACE}operations"
BULK_RETRY, AUDIT = f"{OPERATIONS}/retry", f"{OPERATIONS}/audit"
KEYS, SESSIONS = f"{OPERATIONS}/keys", f"{OPERATIONS}/sessions"
SELECTION, MATCHING, VIEWS = f"{RUNS}/selection", f"{RUNS}/matching", f"{WORKSPACE}views"
DOCS = f"{PREFIX}/docs"
# Printable ASCII that begins with one slash. A browser takes a second one, or a backslash, for the start of a host, and
# drops tabs and line ends before it looks.
LOCAL_PATH = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]{0,2000})?")
ASKING = re.compile(rf"{SIGN_IN}(?![^?#])")


def local_path(given: str | None) -> str:
    """Return where to go on after signing in: the given path of this site, or the first page."""
    is_usable = given is not None and LOCAL_PATH.fullmatch(given) and not ASKING.match(given)
    return given if given is not None and is_usable else HOME


def sign_in_first(request: web.Request) -> web.Response:
    """Return the response that sends a browser to the sign-in page, and back afterwards if it only wanted to read."""
    came_for = request.rel_url.raw_path_qs if request.method in ("GET", "HEAD") else HOME
    target = URL(SIGN_IN)
    return see_other(str(target if local_path(came_for) == HOME else target.with_query(next=came_for)))


def see_other(path: str) -> web.Response:
    """Return the response that sends a browser to a path of this site with a GET."""
    return web.Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})
