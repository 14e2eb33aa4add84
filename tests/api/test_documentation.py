"""The pages of the documentation, and what each type of problem means: complete, offline and under a strict policy."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest

from api.docs.facts import WAITING_KINDS
from api.docs.pages import NAMES, PAGES
from api.http.problem_types import PROBLEM_TYPES
from api.routes.table import ROOT_ROUTES, ROUTES
from tests.api.client import Api, Response
from tests.api.conftest import TOKEN
from vm_webapp.runs.admission import RULES
from vm_webapp.runs.states import RUN_TRANSITIONS, STAGE_TRANSITIONS

PATHS = [page.path.removeprefix("/api/v2") for page in PAGES]
HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9"}
STYLE = {"/static/icon.svg", "/static/style.css", "/static/docs.css"}
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Read(HTMLParser):
    """What a page refers to, and what a strict policy would not let it have."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.ids: list[str] = []
        self.forbidden: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag refers to."""
        given = {name: value or "" for name, value in attrs}
        if tag in ("script", "style", "iframe", "object", "base", "form"):
            self.forbidden.append(tag)
        self.forbidden += [name for name in given if name == "style" or name.startswith("on")]
        if "href" in given:
            (self.loaded if tag == "link" else self.links).add(given["href"])
        if "src" in given:
            self.loaded.add(given["src"])
        if "id" in given:
            self.ids.append(given["id"])


def shown(response: Response) -> str:
    """Return the text of a page."""
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8"), response.body
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
    return response.body.decode()


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_needs_nothing_from_elsewhere_and_nothing_inline(refusing: Api, path: str) -> None:
    page = Read(shown(await refusing.get(path)))
    assert page.forbidden == []
    assert page.loaded == STYLE
    assert len(set(page.ids)) == len(page.ids)
    for file in STYLE:
        style = await refusing.request("GET", file, prefix="")
        assert style.status == 200
        assert b"url(" not in style.body
        assert b"@import" not in style.body


async def test_every_link_leads_somewhere(refusing: Api) -> None:
    pages = {f"/api/v2{path}": Read(shown(await refusing.get(path))) for path in PATHS}
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            assert target.startswith("/") or not target, (path, link)
            if anchor:
                assert anchor in pages[target or path].ids, (path, link)
            elif target not in pages:
                # The start page leads on.
                assert (await refusing.request("GET", target, prefix="")).status in (200, 303), (path, link)


async def test_the_first_page_leads_to_every_other(refusing: Api) -> None:
    page = Read(shown(await refusing.get("/docs")))
    assert {each.path for each in PAGES} <= page.links


async def test_every_operation_and_every_shape_is_in_the_reference(refusing: Api) -> None:
    page = Read(shown(await refusing.get("/docs/reference")))
    schemas = (await refusing.get("/openapi.json")).json()["components"]["schemas"]
    assert {each.name for each in (*ROUTES, *ROOT_ROUTES)} <= set(page.ids)
    assert {f"shape-{name}" for name in schemas} <= set(page.ids)


async def test_every_state_and_transition_is_on_its_page(refusing: Api) -> None:
    page = shown(await refusing.get("/docs/states"))
    for status, following in (*RUN_TRANSITIONS.items(), *STAGE_TRANSITIONS.items()):
        assert f"<code>{status}</code>" in page
        assert f"<td>{', '.join(sorted(following)) or 'nothing'}</td>" in page


def test_every_reason_to_wait_is_listed() -> None:
    decided_elsewhere = {"queue", "retry", "approval", "no_worker"}
    assert WAITING_KINDS.keys() == {rule.kind for rule in RULES} | decided_elsewhere


async def test_every_type_of_problem_is_on_the_page_of_errors(refusing: Api) -> None:
    page = Read(shown(await refusing.get("/docs/errors")))
    assert {each.uri for each in PROBLEM_TYPES.values()} <= page.links


async def test_commands_name_the_address_that_the_reader_uses(refusing: Api) -> None:
    assert f"VM={refusing.base_url}/api/v2\n" in shown(await refusing.get("/docs"))


@pytest.mark.parametrize(
    "host", ["localhost;reboot", "localhost`id`", "localhost:1$(id)", 'localhost"', "a.localhost/x"]
)
async def test_what_is_no_host_is_in_no_command(refusing: Api, host: str) -> None:
    response = await refusing.get("/docs", headers={"Host": host})
    assert host not in html.unescape(response.body.decode()) or response.status != 200


@pytest.mark.parametrize("path", ["/docs/nothing", "/docs/", "/docs/first_run", "/docs/../docs", "/docs/base"])
async def test_another_page_is_not_found(refusing: Api, path: str) -> None:
    (await refusing.get(path)).problem(404, "not_found")
    assert NAMES.isdisjoint({"", "base", "problem", "first_run"})


@pytest.mark.parametrize("path", PATHS)
async def test_the_pages_need_credentials_where_everything_does(refusing_managed: Api, path: str) -> None:
    (await refusing_managed.get(path)).problem(401, "unauthorized")
    browser = await refusing_managed.get(path, headers=HTML)
    assert (browser.status, browser.headers["Location"]) == (303, f"/sign-in?next=/api/v2{path}")
    shown(await refusing_managed.get(path, headers=AUTHORIZED))


@pytest.mark.parametrize("name", list(PROBLEM_TYPES))
async def test_a_problem_says_what_it_means_and_what_to_do(refusing_managed: Api, name: str) -> None:
    # Without credentials: the problem may be that there are none.
    each = PROBLEM_TYPES[name]
    response = await refusing_managed.request("GET", each.uri, prefix="")
    assert response.json() == {
        "type": each.uri,
        "title": each.title,
        "status": each.status,
        "meaning": each.meaning,
        "remedy": each.remedy,
        "members": each.members,
    }
    page = shown(await refusing_managed.request("GET", each.uri, prefix="", headers=HTML))
    assert each.meaning in html.unescape(page)
    assert each.remedy in html.unescape(page)
    read = Read(page)
    assert (read.forbidden, read.loaded) == ([], STYLE)
    for path in STYLE:
        assert (await refusing_managed.request("GET", path, prefix="")).status == 200


async def test_a_problem_comes_as_what_is_asked_for(refusing: Api) -> None:
    for accept, media_type in (
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "text/html"),
        ("text/html,*/*;q=0.8", "text/html"),
    ):
        headers = {} if accept is None else {"Accept": accept}
        response = await refusing.request("GET", "/problems/not_found", prefix="", headers=headers)
        assert response.headers["Content-Type"].partition(";")[0] == media_type
        assert response.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    "path", ["/problems", "/problems/", "/problems/nothing", "/problems/not_found/", "/problems/%00"]
)
async def test_a_type_that_there_is_not_is_not_found(refusing: Api, path: str) -> None:
    (await refusing.request("GET", path, prefix="")).problem(404, "not_found")


async def test_the_type_of_a_problem_leads_to_its_meaning(refusing: Api) -> None:
    problem = (await refusing.get("/nothing")).problem(404, "not_found")
    assert (await refusing.request("GET", problem["type"], prefix="")).json()["type"] == problem["type"]


async def test_what_the_pages_say_about_lists_has_no_markup_of_markdown(refusing: Api) -> None:
    for path in PATHS:
        text = re.sub(r"<pre.*?</pre>", "", shown(await refusing.get(path)), flags=re.DOTALL)
        assert "`" not in text, path
