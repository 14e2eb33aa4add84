"""The drafts that wait for a person, and how an edited one will look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from api.auth.actors import ACTOR, require
from api.http.problems import RequestError
from api.schemas.reviews import MAX_CONTENT_CHARACTERS
from api.services import services
from api.ui.forms import read_form
from api.ui.markdown import render_markdown
from api.ui.rendering import site_page
from vm_webapp.runs import queries

MOST_SHOWN = 100


async def list_reviews(request: web.Request) -> web.Response:
    """Show what waits, oldest first: that which this person may decide about, and that which others have to."""
    actor = request[ACTOR]
    titles = services(request).catalog.titles

    def read() -> Mapping[str, Any]:
        drafts = queries.read_drafts(actor, limit=MOST_SHOWN)
        return {"reviews": drafts.own, "others": drafts.others}

    return await site_page(request, "reviews.html", read, titles=titles)


async def preview_draft(request: web.Request) -> web.Response:
    """Return a draft that is being edited as it will look; nothing is stored."""
    require(request, "editor")
    content = (await read_form(request)).get("content", "").replace("\r\n", "\n")
    if len(content) > MAX_CONTENT_CHARACTERS:
        raise RequestError(413, "body_too_large", f"a document may have {MAX_CONTENT_CHARACTERS:,} characters")
    rendered = await services(request).threads.run(lambda: render_markdown(content))
    return web.Response(text=rendered, content_type="text/html", headers={"Cache-Control": "no-store"})
