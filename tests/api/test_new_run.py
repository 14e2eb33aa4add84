"""The form that starts a run, as browsers send it: nothing typed is lost, and nothing is made twice."""

from __future__ import annotations

import asyncio
import html
import io
import re

import pytest

from api.ui.forms import FORM_TYPE
from tests.api.browsers import ACCEPT, Browser
from tests.api.client import Api, Response, written
from tests.api.conftest import MANAGED, Serving
from tests.support.actors import OPERATOR
from vm_webapp.access.keys import create_key
from vm_webapp.access.roles import Role
from vm_webapp.context import brands, projects
from vm_webapp.runs import queries
from vm_webapp.runs.queries import RunFilter
from vm_webapp.runs.records import RunRecord
from vm_webapp.settings import Settings

FORM = {"workflow": "content_calendar", "request": "A calendar for a bakery"}


def key(role: Role) -> str:
    """Return the secret of a new key."""
    return create_key(role, actor=OPERATOR, role=role).secret


@pytest.fixture
async def editor(managed: Api) -> Browser:
    """A browser in which an editor is signed in."""
    browser = Browser(managed)
    assert (await browser.sign_in(key("editor"))).status == 303
    return browser


def runs() -> tuple[RunRecord, ...]:
    """Return every run, newest first."""
    return queries.list_runs(RunFilter(), limit=50, after=None).items


def token_in(page: Response) -> str:
    """Return the token of the form on a page."""
    (found,) = re.findall(r'name="once" value="([\w-]+)"', page.body.decode())
    return str(found)


def typed_in(page: Response) -> str:
    """Return the request as it stands in the form on a page."""
    (found,) = re.findall(r'<textarea id="request".*?>\n(.*?)</textarea>', page.body.decode(), re.DOTALL)
    return html.unescape(found)


async def test_a_form_starts_a_run_with_all_that_it_says(editor: Browser) -> None:
    brand = brands.create({"name": "Brezel & Co"}, actor=OPERATOR)
    project = projects.create({"name": "Spring", "brand_id": brand.id}, actor=OPERATOR)
    page = await editor.get("/ui/runs/new?workflow=content_calendar")
    assert "Brezel &amp; Co" in page.body.decode()
    assert re.search(r'value="content_calendar" required checked', page.body.decode())
    sent = await editor.post(
        "/ui/runs",
        None,
        **FORM,
        once=token_in(page),
        brand_id="",
        project_id=str(project.id),
        four_eyes="yes",
        priority="low",
    )
    (run,) = runs()
    assert (sent.status, sent.headers["Location"]) == (303, f"/ui/runs/{run.id}")
    assert (run.workflow, run.request, run.brand_id, run.project_id) == (*FORM.values(), brand.id, project.id)
    assert (run.four_eyes, run.priority) == (True, "low")


async def test_a_double_click_and_a_page_that_is_sent_again_make_one_run(editor: Browser) -> None:
    once = token_in(await editor.get("/ui/runs/new"))
    sent = await asyncio.gather(*(editor.post("/ui/runs", None, **FORM, once=once) for _ in range(5)))
    sent.append(await editor.post("/ui/runs", None, **FORM, once=once))
    (run,) = runs()
    assert {(each.status, each.headers.get("Location")) for each in sent} == {(303, f"/ui/runs/{run.id}")}


async def test_a_form_that_was_sent_and_changed_after_back_asks_before_it_starts_another(editor: Browser) -> None:
    once = token_in(await editor.get("/ui/runs/new"))
    await editor.post("/ui/runs", None, **FORM, once=once)
    asked = await editor.post("/ui/runs", None, **FORM | {"request": "Another one"}, once=once)
    (run,) = runs()
    assert asked.status == 409
    assert f'href="/ui/runs/{run.id}"' in asked.body.decode()
    assert typed_in(asked) == "Another one"
    again = await editor.post("/ui/runs", None, workflow=FORM["workflow"], request="Another one", once=token_in(asked))
    assert again.status == 303
    assert [run.request for run in runs()] == ["Another one", FORM["request"]]


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"workflow": ""}, "workflow", "Pick a workflow."),
        ({"workflow": "nonsense"}, "workflow", "there is no workflow"),
        ({"workflow": "a\0b"}, "workflow", "Pick a workflow of the list."),
        ({"request": " \r\n "}, "request", "Say what you want."),
        ({"request": "x" * 20_001}, "request", "At most 20,000 characters; this has 20,001."),
        ({"request": "a\0b"}, "request", "characters that cannot be stored"),
        ({"brand_id": "nonsense"}, "brand_id", "Pick a brand of the list."),
        ({"brand_id": "01a210a9-d3d9-7077-a15d-600fd463d098"}, "brand_id", "there is no brand"),
        ({"project_id": "01a210a9-d3d9-7077-a15d-600fd463d098"}, "project_id", "there is no project"),
        ({"priority": "highest"}, "priority", "Pick a priority of the list."),
        ({"four_eyes": "yes", "auto_approve": "yes"}, "four_eyes", "leaves none"),
    ],
)
async def test_an_error_stands_beside_its_field_and_nothing_typed_is_lost(
    editor: Browser, fields: dict[str, str], field: str, message: str
) -> None:
    brands.create({"name": "Brezel"}, actor=OPERATOR)
    projects.create({"name": "Spring"}, actor=OPERATOR)
    before = written()
    text = "Zeile 1\r\n<b>&amp;</b> \u202eesrever\u202c 🥨\r\n"
    page = await editor.post("/ui/runs", None, **FORM | {"request": text} | fields)
    assert page.status == 422
    body = page.body.decode()
    (beside,) = re.findall(rf'<p class="problem" id="{field}-wrong">(.*?)</p>', body)
    assert message in html.unescape(beside)
    assert f'aria-describedby="{field}-wrong' in body
    kept = fields.get("request", text).replace("\r\n", "\n").replace("\0", "")
    assert typed_in(page) == kept
    assert written() == before


async def test_a_request_keeps_its_lines_and_every_character(editor: Browser) -> None:
    text = "Zeile 1\r\n\r\n<script>alert(1)</script> \u202eesrever\u202c 🥨 {{ 7 * 7 }}"
    assert (await editor.post("/ui/runs", None, **FORM | {"request": text})).status == 303
    (run,) = runs()
    assert run.request == text.replace("\r\n", "\n")
    for path in ("/", f"/ui/runs/{run.id}"):
        shown = (await editor.get(path)).body.decode()
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert(1)" in shown


async def test_a_session_that_ended_in_the_middle_of_a_form_loses_nothing(managed: Api) -> None:
    secret = key("editor")
    browser = Browser(managed)
    await browser.sign_in(secret)
    once = token_in(await browser.get("/ui/runs/new"))
    managed.services.sessions.forget_all()
    browser.cookie = ""
    text = 'Line 1\r\n"quoted" <b> & more'
    asked = await browser.post("/ui/runs", None, workflow="content_calendar", request=text, once=once)
    assert asked.status == 401
    assert "comes back after you" in asked.body.decode()
    # A key that opens nothing loses nothing either.
    for given, status in (("vmk_wrong", 401), (secret, 200)):
        asked = await browser.post("/sign-in", None, **hidden_in(asked), key=given)
        assert asked.status == status
    assert "You are signed in again" in asked.body.decode()
    assert runs() == ()
    sent = await browser.post("/ui/runs", None, **hidden_in(asked))
    (run,) = runs()
    assert (sent.status, run.request) == (303, text.replace("\r\n", "\n"))


def hidden_in(page: Response) -> dict[str, str]:
    """Return the hidden fields of the form on a page, as a browser sends them."""
    body = page.body.decode()
    found = dict(re.findall(r'<input type="hidden" name="([\w.]+)" value="(.*?)"', body))
    found |= dict(re.findall(r'<textarea name="([\w.]+)" hidden>\n(.*?)</textarea>', body, re.DOTALL))
    return {
        name: html.unescape(value).replace("\r\n", "\n").replace("\n", "\r\n")  # as browsers do
        for name, value in found.items()
    }


@pytest.mark.parametrize("action", ["https://evil.example/ui/", "//evil.example", "/sign-out", "/ui\\x", "ui/runs"])
async def test_only_a_form_of_the_workspace_is_carried_through_signing_in(managed: Api, action: str) -> None:
    fields = {"kept.action": action, "kept.request": "x", "key": key("editor")}
    assert (await Browser(managed).post("/sign-in", None, **fields)).status == 303


async def test_a_viewer_is_told_why_there_is_no_form(managed: Api) -> None:
    browser = Browser(managed)
    await browser.sign_in(key("viewer"))
    for answer in (await browser.get("/ui/runs/new"), await browser.post("/ui/runs", None, **FORM)):
        assert answer.status == 403
        assert "this needs the role editor" in answer.body.decode()
    assert "/ui/runs/new" not in (await browser.get("/")).body.decode()


async def test_a_form_of_another_site_starts_nothing(editor: Browser) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}):
        assert (await editor.post("/ui/runs", headers, **FORM)).status == 403
    assert runs() == ()


async def test_a_field_that_the_form_does_not_have_is_refused(editor: Browser) -> None:
    answer = await editor.post("/ui/runs", None, **FORM, surprise="x")
    assert (answer.status, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
    assert runs() == ()


async def test_a_megabyte_is_refused_with_the_way_back_to_it(editor: Browser) -> None:
    headers = {"Cookie": editor.cookie, "Sec-Fetch-Site": "same-origin", "Accept": ACCEPT, "Content-Type": FORM_TYPE}
    body = io.BytesIO(b"workflow=content_calendar&request=" + b"x" * 2**20)
    answer = await editor.api.request("POST", "/ui/runs", prefix="", data=body, headers=headers)
    assert answer.status == 413
    assert "it still has what you typed" in answer.body.decode()
    assert runs() == ()


async def test_a_quota_that_is_used_up_is_said_above_the_form(serving: Serving, database: str) -> None:
    settings = Settings(managed=True, api_token=MANAGED.api_token, runs_per_day=1)
    async with serving(settings, require_token=True) as api:
        browser = Browser(api)
        await browser.sign_in(key("editor"))
        assert (await browser.post("/ui/runs", None, **FORM)).status == 303
        refused = await browser.post("/ui/runs", None, **FORM | {"request": "Another one"})
    assert refused.status == 429
    assert typed_in(refused) == "Another one"
    assert len(runs()) == 1
