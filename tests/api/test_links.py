"""Every link that a page shows, as each role: it leads somewhere, and the role may go there."""

from __future__ import annotations

import html
import re
from collections import deque
from typing import get_args

import pytest

from tests.api.browsers import Browser
from tests.api.client import Api
from tests.db.spending import finish
from tests.support.actors import OPERATOR
from tests.support.runs import create
from tests.support.work import WORKER, claim_next, finish_next
from vm_webapp.access.keys import create_key
from vm_webapp.access.roles import Role
from vm_webapp.context import brands, projects
from vm_webapp.runs import lifecycle
from vm_webapp.runs.budget import Budget

MOST_PAGES = 200
LINK = re.compile(r'<(?:a|form)\b[^>]*?\b(?:href|action)="([^"#]+)')


def fill() -> None:
    """Make runs in every state."""
    brand = brands.create({"name": "Brezel"}, actor=OPERATOR)
    projects.create({"name": "Spring", "brand_id": brand.id}, actor=OPERATOR)
    create(brand_id=brand.id)
    claim_next(create().run.id)
    finish_next(create("landing_page").run.id)
    finish_next(create("landing_page", brand_id=brand.id).run.id)
    done = create("content_calendar").run.id
    finish_next(done)
    finish_next(done)
    finish(claim_next(create(budget=Budget(50)).run.id), WORKER)  # and its budget is spent
    lifecycle.cancel_run_if_open(create().run.id, actor=OPERATOR)


@pytest.mark.parametrize("role", get_args(Role))
async def test_every_link_of_every_page_leads_on(managed: Api, role: Role) -> None:
    fill()
    browser = Browser(managed)
    await browser.sign_in(create_key("ann", actor=OPERATOR, role=role).secret)
    waiting, seen = deque(["/"]), {"/"}
    while waiting and len(seen) < MOST_PAGES:
        path = waiting.popleft()
        page = await browser.get(path)
        assert page.status == 200, (path, page.body)
        if not page.headers["Content-Type"].startswith("text/html"):
            continue
        for opening, link in ((each[0], html.unescape(each[1])) for each in LINK.finditer(page.body.decode())):
            if "<form" in opening or not link.startswith("/"):
                continue
            if link not in seen:
                seen.add(link)
                waiting.append(link)
    assert {"/account", "/api/v2/docs"} <= seen
    assert ("/ui/runs/new" in seen) == (role != "viewer")
    assert any(link.startswith("/ui/projects/0") for link in seen)
    assert any(link.startswith("/ui/brands/0") and link.endswith("/edit") for link in seen) == (role != "viewer")
    assert any(link.endswith("/retry") for link in seen) == (role != "viewer")
    assert sum(link.startswith("/ui/runs/0") for link in seen) >= 4
