"""Whatever is sent in whatever field of whatever form: no error of the service, clear words, and nothing typed lost."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from urllib.parse import quote_plus
from uuid import uuid4

import pytest
from yarl import URL

from api.ui.places import PREVIEW, SIGN_IN
from api.ui.run_list import owner_of
from api.ui.table import PAGES
from tests.api.browsers import ACCEPT, FORM, Browser
from tests.api.client import Api, Response
from tests.api.html_forms import Form, forms_of
from tests.support.actors import OPERATOR
from tests.support.runs import create
from tests.support.work import claim_next, finish_next
from vm_webapp.access.keys import create_key, find_key
from vm_webapp.context import brands, projects
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.ops import queue_control
from vm_webapp.runs import lifecycle, saved_views
from vm_webapp.runs.states import Failure
from vm_webapp.text import is_storable

SCRIPT = "<script>window.harmed"
BAD = {
    "HTML": f'"></textarea>{SCRIPT}=1</script>&amp;<b>',
    "a megabyte": "x" * 2**20,
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd\u2066 \u0645\u0631\u062d\u0628\u0627",
    "emoji": "\U0001f469\u200d\U0001f680\U0001f950" * 30,
    "NUL": "a\0b",
    "a lone surrogate": "a\ud800b",
    "line ends": "a\rb\u2028c\x0bd\r\n",
}
ID = re.compile(r"[0-9a-f-]{36}")
WORDS = re.compile(r'class="problem"|class="notice[^"]*"|role="alert"|<h1>')
CLEAR = {200, 201, 303, 400, 401, 404, 409, 412, 413, 422, 429}
POSTED = {path for method, path, _ in PAGES if method == "POST"}


def furnish() -> dict[str, str]:
    """Make something of each kind; return the ids, by which addresses name them."""
    waiting = create("landing_page", "A page that waits").run.id
    finish_next(waiting, "# Draft")
    finish_next(create("landing_page", "Another one that waits").run.id, "# Draft")
    failed = create(request="One that fails").run.id
    broken = Failure("llm_bad_request", "HTTP 400", permanent=True)
    lifecycle.fail_attempt_if_held(claim_next(failed), broken, jitter=0)
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 0))
    return {
        "waiting": str(waiting),
        "failed": str(failed),
        "queued": str(create().run.id),
        "brand": str(brands.create({"name": "Crumb"}, actor=OPERATOR).id),
        "project": str(projects.create({"name": "Spring"}, actor=OPERATOR).id),
    }


PLACES = (
    "/",
    "/account",
    "/sign-in",
    "/ui/runs?status=failed&text=fails",
    "/ui/runs/new",
    "/ui/runs/selection?action=cancel&run={queued}&run={waiting}",
    "/ui/runs/matching?action=archive&query=status%3Dfailed",
    "/ui/runs/{queued}",
    "/ui/runs/{failed}",
    "/ui/runs/{failed}/retry",
    "/ui/runs/{failed}/fork",
    "/ui/runs/{waiting}/documents/message",
    "/ui/reviews/{waiting}/message",
    "/ui/brands/new",
    "/ui/brands/{brand}",
    "/ui/brands/{brand}/edit",
    "/ui/projects/new",
    "/ui/projects/{project}",
    "/ui/projects/{project}/edit",
    "/ui/operations",
    "/ui/operations?stopped",
    "/ui/operations/retry?code=llm_bad_request",
    "/ui/operations/audit",
    "/ui/operations/keys",
    "/ui/operations/sessions",
)


class Visitor:
    """An admin who opens pages and sends their forms, and signs in again when one of them has ended the session."""

    def __init__(self, api: Api) -> None:
        self.browser, self.nobody = Browser(api), Browser(api)
        self.secret = create_key("ada", actor=OPERATOR, role="admin").secret
        self.furnish()

    def furnish(self) -> None:
        """Make something of each kind."""
        self.ids = furnish()
        holder = find_key(self.secret)
        assert holder is not None
        saved_views.save_view(owner_of(holder.actor), f"View {uuid4()}", "status=failed")

    async def forms(self, place: str) -> tuple[Browser, list[Form]]:
        """Return a browser that is signed in, and the forms of a page."""
        if "stopped" in place:
            queue_control.pause_queue(reason="a test", actor=OPERATOR)
            queue_control.pause_provider("kimi", reason="a test", actor=OPERATOR)
        elif "operations" in place:
            queue_control.resume_queue(actor=OPERATOR)
            queue_control.resume_provider("kimi", actor=OPERATOR)
        browser = self.nobody if place == SIGN_IN else self.browser
        page = await browser.get(place.format(**self.ids))
        if page.status == 303:
            await browser.sign_in(self.secret)
            page = await browser.get(place.format(**self.ids))
        assert page.status == 200, place
        return browser, [form for form in forms_of(page.body.decode()) if form.action]

    async def form(self, place: str, first: Form) -> tuple[Browser, Form]:
        """Return a form of a page as it is now, with all that it needs made anew if another form has taken it away."""
        for _ in range(2):
            browser, forms = await self.forms(place)
            for form in forms:
                if form.values.keys() == first.values.keys() and ID.sub("", form.action) == ID.sub("", first.action):
                    return browser, form
            self.furnish()
        raise AssertionError(first)


async def send(browser: Browser, form: Form, action: str, values: dict[str, str]) -> Response:
    """Send a form as browsers do, or, with half a surrogate pair, as none does."""
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": FORM}
    if form.method == "get":
        pairs = "&".join(f"{name}={quote_plus(value, errors='surrogatepass')}" for name, value in values.items())
        return await browser.get(f"{action.partition('?')[0]}?{pairs}")
    if form.is_long and all(map(is_storable, values.values())):
        return await browser.post_long(action, **values)
    pairs = "&".join(f"{name}={quote_plus(value, errors='surrogatepass')}" for name, value in values.items())
    url = URL(f"{browser.api.base_url}{action}", encoded=True)
    given = headers | {"Accept": ACCEPT, "User-Agent": "Test/1.0", "Cookie": browser.cookie}
    body = io.BytesIO(pairs.encode())
    async with browser.api.session.post(url, data=body, headers=given, allow_redirects=False) as answer:
        return Response(answer.status, answer.headers, await answer.read())


def check(response: Response, form: Form, values: dict[str, str], name: str) -> None:
    """Check that a response is clear and harmless, and has what was typed if it refuses it."""
    page = response.body.decode()
    assert response.status in CLEAR, page
    assert SCRIPT not in page
    if response.status < 400:
        return
    assert WORDS.search(page)
    if response.status in (409, 412, 422) and name in form.typed and form.method == "post":
        again = next(each for each in forms_of(page) if each.typed & form.typed)
        for typed in form.typed & again.typed:
            if is_storable(values[typed]) and len(values[typed]) < 2**20:
                assert again.values[typed].split() == values[typed].split(), typed


def tries(form: Form) -> Iterator[tuple[str, str]]:
    """Yield what to put where: a field, none for an untouched form, and the kind of text."""
    yield "", ""
    for name in form.values:
        # Nobody types into a hidden field or the list of a choice.
        yield from (
            (name, kind)
            for kind in (BAD if name in form.typed else ("HTML", "NUL", "a lone surrogate"))
            if kind != "a megabyte" or (form.method == "post" and name == max(form.typed))
        )


@pytest.mark.parametrize("place", PLACES)
async def test_no_field_of_a_form_takes_the_service_aback(managed: Api, place: str) -> None:
    visitor = Visitor(managed)
    _, forms = await visitor.forms(place)
    for first in forms:
        for name, kind in tries(first):
            browser, form = await visitor.form(place, first)
            values = form.values | ({name: BAD[kind]} if name else {})
            button, pressed, elsewhere = (form.buttons or [("", "", "")])[0]
            if button:
                values[button] = pressed
            check(await send(browser, form, elsewhere or form.action, values), form, values, name)


@pytest.mark.parametrize("kind", BAD)
async def test_a_preview_of_anything_is_clear(managed: Api, kind: str) -> None:
    visitor = Visitor(managed)
    browser, _ = await visitor.forms("/")
    form = Form(PREVIEW, "post", is_long=True)
    for field in ("content", "surprise"):
        check(await send(browser, form, PREVIEW, {field: BAD[kind]}), form, {}, field)


async def test_every_form_is_met_on_the_pages(managed: Api) -> None:
    visitor = Visitor(managed)
    met = set()
    for place in PLACES:
        _, forms = await visitor.forms(place)
        met |= {
            elsewhere or form.action
            for form in forms
            if form.method == "post"
            for _, _, elsewhere in [*form.buttons, ("", "", "")]
        }
    unmet = {path for path in POSTED if not any(re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), each) for each in met)}
    assert unmet == {PREVIEW}  # which only a script asks for
