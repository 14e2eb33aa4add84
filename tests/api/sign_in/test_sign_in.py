"""A key opens a session, and the browser goes on to where it came from."""

from __future__ import annotations

import io
import re

import pytest
from yarl import URL

from tests.api.browsers import FORM, Browser
from tests.api.client import NEW_RUN, Api
from tests.api.conftest import TOKEN
from tests.api.sign_in.conftest import STRANGER, key_of, port_of
from tests.support.actors import OPERATOR
from tests.support.runs import read
from vm_webapp.access.keys import revoke_key
from vm_webapp.db.pool import execute, transaction


async def test_a_key_signs_in_and_is_who_acts(browser: Browser) -> None:
    response = await browser.sign_in(key_of("ann"))
    assert (response.status, response.headers["Location"], response.body) == (303, "/", b"")
    assert await browser.actor() == "key:ann"
    ours = {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-origin"}
    assert (await browser.api.post("/runs", NEW_RUN, headers=ours)).status == 201
    assert {each["actor"] for each in read("SELECT actor FROM events")} == {"key:ann"}


async def test_the_token_signs_in_an_admin(browser: Browser) -> None:
    assert (await browser.sign_in(f" {TOKEN}\r\n")).status == 303
    assert await browser.actor() == "admin"


async def test_a_session_has_the_role_of_its_key(browser: Browser) -> None:
    await browser.sign_in(key_of("ann", "viewer"))
    ours = {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-origin"}
    assert (await browser.api.get("/runs", headers=ours)).status == 200
    (await browser.api.post("/runs", NEW_RUN, headers=ours)).problem(403, "forbidden")


@pytest.mark.parametrize("wrong", ["", " ", "nonsense", f"{TOKEN}x", "vmk_" + "A" * 43, STRANGER, "vmk_\x00", "\u20ac"])
async def test_whatever_is_wrong_with_a_key_the_page_says_the_same(browser: Browser, wrong: str) -> None:
    expired = key_of("ann")
    with transaction():
        execute("UPDATE api_keys SET expires_at = now()")
    revoked = key_of("bob")
    revoke_key("bob", actor=OPERATOR)
    pages = [await browser.sign_in(each) for each in (wrong, expired, revoked)]
    assert {(each.status, each.body) for each in pages} == {(401, pages[0].body)}
    assert "This key does not open anything here." in pages[0].body.decode()
    assert 'value="vmk' not in pages[0].body.decode()
    assert browser.cookie == ""
    assert read("SELECT 1 AS one FROM sessions") == []


@pytest.mark.parametrize(
    ("body", "type_", "status"),
    [
        (b"{}", "application/json", 415),
        (b"key=a", "text/plain", 415),
        (b"key=a", "multipart/form-data; boundary=x", 400),
        (b"key=a", "multipart/form-data", 400),
        (b"key=a&key=b", FORM, 400),
        (b"key=%ff", FORM, 400),
        (b"\xff", FORM, 400),
        (b"&".join(b"a%d=1" % n for n in range(50)), FORM, 400),
        (b"", FORM, 401),
        (b"%00=%00&key=%00", FORM, 401),
        (b"x" * (1024 * 1024 + 1), FORM, 413),
    ],
)
async def test_what_is_no_form_is_refused(browser: Browser, body: bytes, type_: str, status: int) -> None:
    headers = {"Content-Type": type_, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    url = f"{browser.api.base_url}/sign-in"
    async with browser.api.session.post(url, data=io.BytesIO(body), headers=headers, allow_redirects=False) as response:
        assert (response.status, response.content_type) == (status, "text/html")
    assert read("SELECT 1 AS one FROM sessions") == []


@pytest.mark.parametrize("path", ["/", "/account", "/nothing", "/nothing?a=b&c=%20d", "/static/nothing.css"])
async def test_a_browser_that_is_not_signed_in_signs_in_first_and_comes_back(browser: Browser, path: str) -> None:
    response = await browser.get(path)
    assert response.status == 303
    place = response.headers["Location"]
    assert place.partition("?")[0] == "/sign-in"
    shown = (await browser.get(place)).body.decode()
    (back,) = re.findall(r'name="next" value="(.*)"', shown)
    back = back.replace("&amp;", "&")
    assert back == path
    assert (await browser.sign_in(TOKEN, next=back)).headers["Location"] == path


async def test_the_api_and_clients_of_it_get_a_problem_and_no_page(managed: Api) -> None:
    browser = Browser(managed)
    for path in ("/api/v2/runs", "/api/v2/nothing", "/api/v2"):
        (await browser.get(path)).problem(401, "unauthorized")
    for path in ("/", "/account", "/nothing"):
        (await browser.get(path, {"Accept": "*/*"})).problem(401, "unauthorized")
        (await browser.get(path, {"Accept": "application/json"})).problem(401, "unauthorized")


async def test_a_form_of_a_session_that_has_ended_leads_to_the_sign_in_page(browser: Browser) -> None:
    browser.cookie = f"vm-{port_of(browser.api)}={STRANGER}"
    for path in ("/sign-out", "/sign-out-everywhere", "/account/sessions/x/end"):
        response = await browser.post(path)
        assert (response.status, response.headers["Location"]) == (303, "/sign-in")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\r\nSet-Cookie: a=b",
        "javascript:alert(1)",
        "evil.example",
        "",
        "/ x",
        "/\u20ac",
        "/sign-in",
        "/sign-in?next=/sign-in",
        "/" + "x" * 3000,
    ],
)
async def test_a_browser_is_never_sent_to_another_site(browser: Browser, elsewhere: str) -> None:
    shown = await browser.get(str(URL("/sign-in").with_query(next=elsewhere)))
    assert '<input type="hidden" name="next" value="/">' in shown.body.decode()
    response = await browser.sign_in(TOKEN, next=elsewhere)
    assert response.headers.getall("Location") == ["/"]


async def test_an_open_api_serves_the_pages_and_takes_a_session_for_who_it_is(api: Api) -> None:
    browser = Browser(api)
    assert await browser.actor() == "local"
    browser.cookie = f"vm-{port_of(api)}={STRANGER}"
    assert await browser.actor() == "local"
    await browser.sign_in(key_of("ann", "viewer"))
    assert await browser.actor() == "key:ann"
    ours = {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-origin"}
    (await api.post("/runs", NEW_RUN, headers=ours)).problem(403, "forbidden")
    foreign = {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-site"}
    (await api.post("/runs", NEW_RUN, headers=foreign)).problem(403, "cross_site")
    assert (await browser.get("/account", {"Host": "evil.example", "Cookie": "a=b"})).status == 403
    await browser.post("/sign-out")
    assert await browser.actor() == "local"


async def test_the_eleventh_attempt_within_a_minute_is_refused_even_with_the_right_key(browser: Browser) -> None:
    for _ in range(10):
        assert (await browser.sign_in("vmk_wrong")).status == 401
    response = await browser.sign_in(TOKEN)
    assert response.status == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert "too many attempts to sign in" in response.body.decode()
    assert browser.cookie == ""


async def test_the_attempts_of_another_address_are_counted_apart(public: Api) -> None:
    """The address is the one that the trusted proxy has added, whatever a stranger has written before it."""
    ours = {"Sec-Fetch-Site": "same-origin"}
    for number in range(11):
        browser = Browser(public, X_Forwarded_Proto="https", X_Forwarded_For=f"192.0.2.{number}, 203.0.113.5")
        response = await browser.post("/sign-in", ours, key="vmk_wrong")
    assert response.status == 429
    elsewhere = Browser(public, X_Forwarded_Proto="https", X_Forwarded_For="203.0.113.6")
    assert (await elsewhere.post("/sign-in", ours, key=TOKEN)).status == 303
