"""The pages of the workspace as responses: whole ones, what changes of them, and their errors."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from api.streams.changes import REST_SECONDS
from api.ui import static
from api.ui.home import MOST_SHOWN
from tests.api.browsers import ACCEPT, Browser
from tests.api.client import Api, until
from tests.fakes.tcp_proxy import Proxy
from tests.support.actors import OPERATOR
from tests.support.runs import create
from tests.support.work import claim_next, finish_next
from vm_webapp.access.keys import create_key, find_key, revoke_key
from vm_webapp.context import brands, projects
from vm_webapp.db.pool import execute, transaction
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle
from vm_webapp.runs.states import Failure

HTMX = {"HX-Request": "true", "Accept": ACCEPT}
VENDORED = {
    "vendor/htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "vendor/hx-sse.min.js": "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103",
}


@asynccontextmanager
async def changes(api: Api, **headers: str) -> AsyncIterator[aiohttp.StreamReader]:
    """Open the stream of hints."""
    async with api.session.get(f"{api.base_url}/ui/changes", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield response.content


async def hint(stream: aiohttp.StreamReader) -> bytes:
    """Return the next event."""
    async with asyncio.timeout(10):
        return await stream.readuntil(b"\n\n")


async def test_a_fragment_is_the_same_part_of_the_page(api: Api) -> None:
    created = create(request="A page for a bakery", workflow="landing_page")
    finish_next(created.run.id)
    browser = Browser(api)
    whole = (await browser.get("/")).body.decode()
    part = (await browser.get("/", HTMX)).body.decode()
    assert "<html" not in part
    assert "<title>(1) Home · VM Webapp</title>" in part
    (live,) = re.findall(r'<div id="live">\n(.*?)    </div>\n', whole, re.DOTALL)
    assert live in part
    assert "Review: Message and structure" in live


async def test_only_who_may_decide_is_told_that_a_draft_waits(managed: Api) -> None:
    people = {name: create_key(name, actor=OPERATOR, role="editor") for name in ("ann", "bob")}
    holder = find_key(people["ann"].secret)
    assert holder is not None
    created = create(workflow="landing_page", four_eyes=True, actor=holder.actor)
    finish_next(created.run.id)
    for name, title in (("ann", "Home"), ("bob", "(1) Home")):
        browser = Browser(managed)
        await browser.sign_in(people[name].secret)
        assert f"<title>{title} · VM Webapp</title>" in (await browser.get("/")).body.decode()


async def test_a_draft_to_decide_about_is_shown_behind_many_of_others(managed: Api) -> None:
    ann, bob = (create_key(name, actor=OPERATOR, role="editor") for name in ("ann", "bob"))
    holders = {name: find_key(made.secret) for name, made in (("ann", ann), ("bob", bob))}
    for name in ["ann"] * (MOST_SHOWN + 1) + ["bob"]:
        holder = holders[name]
        assert holder is not None
        finish_next(create("landing_page", f"for {name}", four_eyes=True, actor=holder.actor).run.id)
    browser = Browser(managed)
    await browser.sign_in(ann.secret)
    for path in ("/", "/ui/reviews"):
        page = (await browser.get(path)).body.decode()
        before, _, others = page.partition("Waiting for somebody else")
        assert "for bob" in before
        assert "for ann" in others
    await browser.sign_in(bob.secret)
    assert '<a href="/ui/reviews">1 more</a>' in (await browser.get("/")).body.decode()


async def test_a_list_that_is_cut_leads_to_the_whole_of_it(api: Api) -> None:
    created = [create().run.id for _ in range(MOST_SHOWN + 1)]
    browser = Browser(api)
    assert '<a href="/ui/runs?status=active">All active runs</a>' in (await browser.get("/")).body.decode()
    for run_id in created:
        failure = Failure(code="llm_refused", message="it did not work", permanent=True)
        lifecycle.fail_attempt_if_held(claim_next(run_id), failure, jitter=0)
    page = (await browser.get("/")).body.decode()
    assert '<a href="/ui/runs?status=failed&amp;order=finished">All failed runs</a>' in page


async def test_an_address_that_only_takes_a_form_says_so(refusing: Api) -> None:
    answer = await Browser(refusing).get(f"/ui/runs/{uuid4()}/cancel")
    assert answer.status == 405
    assert "There is nothing to read here" in answer.body.decode()
    assert "Allow lists" not in answer.body.decode()


async def test_a_change_of_this_process_is_hinted_at_once_and_at_most_twice_a_second(api: Api) -> None:
    loop = asyncio.get_running_loop()
    async with changes(api) as stream:
        assert await hint(stream) == b"event: change\ndata:\n\n"
        assert len(api.services.changes) == 1
        times = []
        for _ in range(3):
            create()
            await hint(stream)
            times.append(loop.time())
    assert times[2] - times[0] >= REST_SECONDS
    await until(lambda: len(api.services.changes) == 0)


async def test_a_change_of_another_process_is_found_by_looking(api: Api) -> None:
    async with changes(api) as stream:
        await hint(stream)
        await hint(stream)  # the first look of this process
        with transaction():
            execute("UPDATE queues SET paused_at = now() WHERE name = 'stages'")
        assert await hint(stream) == b"event: change\ndata:\n\n"


async def test_a_stream_ends_when_its_key_is_revoked(managed: Api) -> None:
    made = create_key("ann", actor=OPERATOR, role="viewer")
    async with changes(managed, Authorization=f"Bearer {made.secret}") as stream:
        await hint(stream)
        revoke_key("ann", actor=OPERATOR)
        async with asyncio.timeout(10):
            while not stream.at_eof():
                await stream.readany()


async def test_a_page_that_is_open_is_told_that_nobody_is_signed_in_any_more(managed: Api) -> None:
    answer = await Browser(managed).get("/", HTMX)
    assert (answer.status, answer.headers["HX-Retarget"]) == (401, "#trouble")
    assert '<a href="/sign-in">Sign in</a>' in answer.body.decode()


async def test_a_form_that_the_database_did_not_take_can_be_sent_again(behind_proxy: Api, proxy: Proxy) -> None:
    browser = Browser(behind_proxy)
    await browser.get("/ui/runs/new")
    proxy.cut()
    fields = {"workflow": "content_calendar", "request": "A calendar", "once": "x" * 22}
    refused = await browser.post("/ui/runs", None, **fields)
    body = refused.body.decode()
    assert refused.status == 503
    assert '<form method="post" action="/ui/runs" enctype="multipart/form-data">' in body
    for name, value in fields.items():
        assert f'<textarea name="{name}" hidden>\n{value}</textarea>' in body


@pytest.mark.parametrize("path", ["/nothing", "/ui/runs/nonsense", "/ui/runs/01a210a9-d3d9-7077-a15d-600fd463d098"])
async def test_a_page_that_is_not_there_leads_on(refusing: Api, path: str) -> None:
    answer = await Browser(refusing).get(path)
    assert answer.status == 404
    assert '<a href="/">' in answer.body.decode()
    assert answer.headers["X-Request-ID"] in answer.body.decode()


def test_what_is_vendored_is_what_its_makers_published() -> None:
    folder = Path(static.FOLDER)
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in VENDORED} == VENDORED
    assert "Zero-Clause BSD" in (folder / "vendor" / "htmx.LICENSE.txt").read_text()


async def test_a_request_turns_around_no_more_of_a_title_than_itself(api: Api) -> None:
    run = create(request="A \u202egnp & \u2066more").run.id
    other = create(request="\u05e9\u05dc\u05d5\u05dd").run.id
    browser = Browser(api)
    assert "<title>A gnp &amp; more · VM Webapp</title>" in (await browser.get(f"/ui/runs/{run}")).body.decode()
    page = (await browser.get(f"/ui/runs/{other}")).body.decode()
    assert "<title>\u2068\u05e9\u05dc\u05d5\u05dd\u2069 · VM Webapp</title>" in page
    listed = (await browser.get("/ui/runs")).body.decode()
    assert 'aria-label="Select: A gnp &amp; more"' in listed
    assert 'aria-label="Select: \u2068\u05e9\u05dc\u05d5\u05dd\u2069"' in listed
    assert "A \u202egnp &amp; \u2066more</a>" in listed  # an element of its own keeps the text as it was written


async def test_a_name_or_a_reason_turns_around_no_more_of_a_line_than_itself(api: Api) -> None:
    brand = brands.create({"name": "\u202ednarb"}, actor=OPERATOR)
    project = projects.create({"name": "\u202etcejorp", "brand_id": brand.id}, actor=OPERATOR)
    run = create("landing_page", brand_id=brand.id, project_id=project.id).run.id
    finish_next(run)
    queue_control.pause_queue(reason="\u202eesuoh evom ew", actor=OPERATOR)
    browser = Browser(api)
    for path in ("/", "/ui/reviews", "/ui/projects", f"/ui/runs/{run}", f"/ui/reviews/{run}/message"):
        page = (await browser.get(path)).body.decode()
        assert "<bdi>\u202ednarb</bdi> ·" in page
        assert "(esuoh evom ew). Runs wait" in page
    assert "<bdi>\u202etcejorp</bdi>" in (await browser.get(f"/ui/runs/{run}")).body.decode()
