"""The sign-in page, the session that it opens, and the pages that end it."""

from __future__ import annotations

import asyncio
import gzip
import io
import ipaddress
import re
import threading
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from multidict import CIMultiDict
from yarl import URL

from tests.api.browsers import FORM, Browser
from tests.api.client import NEW_RUN, Api, until
from tests.api.conftest import TOKEN, Serving
from tests.fakes.tcp_proxy import Proxy
from tests.support.actors import OPERATOR
from tests.support.audit import entries
from tests.support.runs import read
from vm_webapp.access import sessions
from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.access.roles import Role
from vm_webapp.db.pool import execute, transaction
from vm_webapp.settings import Settings

NEIGHBOUR = (ipaddress.ip_network("127.0.0.0/8"),)
BEHIND_TLS = Settings(managed=True, api_token=TOKEN, trusted_proxies=NEIGHBOUR)
STRANGER = "vms_" + "A" * 43


@pytest.fixture
def browser(managed: Api) -> Browser:
    """A browser on the machine that the API runs on."""
    return Browser(managed)


@pytest.fixture
async def public(serving: Serving, database: str) -> AsyncIterator[Api]:
    """An API that is bound to an address of the network, behind a proxy that ends TLS."""
    async with serving(BEHIND_TLS, require_token=True, loopback=False) as running:
        yield running


@pytest.fixture(autouse=True)
def looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.credential_cache.CACHE_SECONDS", 0.0)


def key_of(name: str, role: Role = "editor") -> str:
    """Return a new key."""
    return create_key(name, actor=OPERATOR, role=role).secret


def port_of(api: Api) -> str:
    """Return the port of an API."""
    return api.base_url.rpartition(":")[2]


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


async def test_on_loopback_the_cookie_has_a_plain_name_with_the_port(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    assert browser.attributes == {
        "name": f"vm-{port_of(browser.api)}",
        "path": "/",
        "httponly": True,
        "samesite": "Lax",
        "max-age": str(7 * 24 * 3600),
    }


async def test_elsewhere_the_cookie_is_bound_to_the_host_and_to_tls(public: Api) -> None:
    browser = Browser(public, X_Forwarded_Proto="https", Host="vm.example")
    browser_says = {"Sec-Fetch-Site": "same-origin"}
    assert (await browser.post("/sign-in", browser_says, key=TOKEN)).status == 303
    assert browser.attributes == {
        "name": "__Host-vm",
        "path": "/",
        "secure": True,
        "httponly": True,
        "samesite": "Lax",
        "max-age": str(7 * 24 * 3600),
    }
    assert await browser.actor() == "admin"
    # The sign-out takes it away with the same attributes, or a browser would keep it.
    await browser.post("/sign-out", browser_says)
    assert (browser.attributes["name"], browser.attributes["secure"], browser.attributes["max-age"]) == (
        *("__Host-vm", True),
        "0",
    )


async def test_the_lifetime_of_the_cookie_follows_the_setting(serving: Serving, database: str) -> None:
    settings = Settings(managed=True, api_token=TOKEN, session_lasts=timedelta(hours=1))
    async with serving(settings, require_token=True) as api:
        browser = Browser(api)
        await browser.sign_in(TOKEN)
        assert browser.attributes["max-age"] == "3600"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Forwarded-Proto": "http"},
        {"X-Forwarded-Proto": "https, http"},
        {"Forwarded": "proto=https"},
        {"Host": "localhost:8766"},
        {"X-Forwarded-Host": "localhost", "Origin": "https://vm.example"},
    ],
)
async def test_over_plain_http_nobody_signs_in_from_the_network(public: Api, headers: dict[str, str]) -> None:
    browser = Browser(public)
    for response in (
        await browser.get("/sign-in", headers),
        await browser.post("/sign-in", {"Sec-Fetch-Site": "same-origin"} | headers, key=TOKEN),
    ):
        assert response.status == 403
        assert "sign in over https" in response.body.decode()
        assert "VM_TRUSTED_PROXIES" in response.body.decode()
        assert "Set-Cookie" not in response.headers
        assert "<form" not in response.body.decode()


async def test_a_strangers_header_makes_no_tls(serving: Serving, database: str) -> None:
    """Neither does it choose the cookie."""
    settings = Settings(managed=True, api_token=TOKEN)
    async with serving(settings, require_token=True, loopback=False) as api:
        browser = Browser(api, X_Forwarded_Proto="https")
        assert (await browser.sign_in(TOKEN)).status == 403
    async with serving(settings, require_token=True) as api:
        browser = Browser(api, X_Forwarded_Proto="https", Host="vm.example")
        assert (await browser.post("/sign-in", {"Sec-Fetch-Site": "same-origin"}, key=TOKEN)).status == 303
        assert browser.attributes["name"] == f"vm-{port_of(api)}"


async def test_the_plain_cookie_counts_only_where_it_is_set(public: Api, browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    secret = browser.cookie.partition("=")[2]
    abroad = Browser(public, X_Forwarded_Proto="https")
    abroad.cookie = f"vm-{port_of(public)}={secret}"
    assert await abroad.actor() is None
    abroad.cookie = f"__Host-vm={secret}"
    assert await abroad.actor() == "admin"


async def test_signing_in_again_gives_a_new_secret_and_ends_the_old_session(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    old = browser.cookie
    await browser.sign_in(key_of("ann"))
    assert browser.cookie != old
    browser.cookie, new = old, browser.cookie
    assert await browser.actor() is None
    browser.cookie = new
    assert await browser.actor() == "key:ann"


async def test_a_planted_secret_is_never_taken_over(browser: Browser) -> None:
    """Session fixation: the session has a fresh secret whatever the browser brought."""
    browser.cookie = f"vm-{port_of(browser.api)}={STRANGER}"
    await browser.sign_in(TOKEN)
    assert STRANGER not in browser.cookie


async def test_signing_out_ends_the_session_and_takes_the_cookie_away(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    old = browser.cookie
    response = await browser.post("/sign-out")
    assert (response.status, response.headers["Location"], browser.cookie) == (303, "/sign-in", "")
    assert response.headers["Clear-Site-Data"] == '"storage"'
    browser.cookie = old
    assert await browser.actor() is None


async def test_signing_out_is_at_once_though_lookups_are_remembered(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.auth.credential_cache.CACHE_SECONDS", 60.0)
    for path in ("/sign-out", "/sign-out-everywhere"):
        await browser.sign_in(TOKEN)
        assert await browser.actor() == "admin"
        old = browser.cookie
        await browser.post(path)
        browser.cookie = old
        assert await browser.actor() is None


async def test_signing_out_everywhere_ends_the_own_sessions_and_no_others(managed: Api) -> None:
    key = key_of("ann")
    here, there, other = (Browser(managed) for _ in range(3))
    for browser, secret in ((here, key), (there, key), (other, TOKEN)):
        await browser.sign_in(secret)
    await here.post("/sign-out-everywhere")
    assert [await each.actor() for each in (here, there, other)] == [None, None, "admin"]


async def test_the_account_lists_the_own_sessions_and_ends_them_one_by_one(managed: Api) -> None:
    key = key_of("ann")
    here, there = Browser(managed), Browser(managed, User_Agent="<script>alert(1)</script>")
    for browser in (here, there):
        await browser.sign_in(key)
    await Browser(managed).sign_in(TOKEN)
    shown = (await here.get("/account")).body.decode()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert shown.count("this browser") == 1
    found = re.findall(r'action="(/account/sessions/[0-9a-f-]+/end)"', shown)
    assert len(found) == 2
    other = found[0]  # the newest first
    assert (await here.post(other)).status == 303
    assert [await each.actor() for each in (here, there)] == ["key:ann", None]


@pytest.mark.parametrize("id", ["nonsense", "01a20c66-c2a9-70b2-9d9f-0558575aa31b", "%00"])
async def test_a_session_that_is_not_ones_own_cannot_be_ended(browser: Browser, id: str) -> None:
    await browser.sign_in(key_of("ann"))
    assert (await browser.post(f"/account/sessions/{id}/end")).status == 404


async def test_a_revoked_key_ends_its_sessions(browser: Browser) -> None:
    await browser.sign_in(key_of("ann"))
    revoke_key("ann", actor=OPERATOR)
    assert await browser.actor() is None
    (await browser.api.get("/runs", headers={"Cookie": browser.cookie})).problem(401, "unauthorized")


async def test_a_session_that_was_idle_for_too_long_has_ended(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    with transaction():
        execute("UPDATE sessions SET last_seen_at = clock_timestamp() - interval '12 hours'")
    assert await browser.actor() is None


async def test_a_request_puts_the_idle_limit_off(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    with transaction():
        execute("UPDATE sessions SET last_seen_at = clock_timestamp() - interval '11 hours'")
    assert await browser.actor() == "admin"
    found = read("SELECT last_seen_at > now() - interval '1 minute' AS new FROM sessions")
    assert found == [{"new": True}]


FORGED = [
    "{name}=",
    "{name}=nonsense",
    "{name}=" + STRANGER,
    '{name}="{secret}"',
    "{name}={secret}x",
    "{name}={lower}",
    "{name} x={secret}",
    "X{name}={secret}",
    "{upper}={secret}",
    "{name}%3D{secret}",
    "\u2000{name}={secret}",
    "$Version=1; ${name}={secret}",
    "{name}={secret}; {name}={secret}",
    "{name}={secret}; {name}=" + STRANGER,
    "{name}=" + STRANGER + "; {name}={secret}",
    "a={name}={secret}",
    "__Host-vm={secret}",
    "vm-1={secret}",
]


@pytest.mark.parametrize("forged", FORGED)
async def test_a_forged_doubled_or_malformed_cookie_signs_nobody_in(browser: Browser, forged: str) -> None:
    await browser.sign_in(TOKEN)
    name, _, secret = browser.cookie.partition("=")
    values = {"name": name, "secret": secret, "upper": name.upper(), "lower": secret.lower()}
    cookie = forged
    for key, value in values.items():
        cookie = cookie.replace(f"{{{key}}}", value)
    refused = await browser.api.get("/runs", headers={"Cookie": cookie})
    assert secret not in str(refused.problem(401, "unauthorized"))


async def test_a_cookie_in_two_headers_signs_nobody_in(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    given = CIMultiDict([("Cookie", browser.cookie), ("Cookie", browser.cookie)])
    (await browser.api.get("/runs", headers=given)).problem(401, "unauthorized")
    given = CIMultiDict([("Cookie", "a=b"), ("Cookie", browser.cookie)])
    assert (await browser.api.get("/runs", headers=given)).status == 200


async def test_a_cookie_among_others_is_found(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    for cookie in (f"a=b; {browser.cookie}; theme=dark", f"a=b;{browser.cookie};c", f"=; ;;{browser.cookie}"):
        assert (await browser.api.get("/runs", headers={"Cookie": cookie})).status == 200


@pytest.mark.parametrize("where", ["session={secret}", "{name}={secret}", "token={secret}", "access_token={secret}"])
async def test_a_session_in_the_url_signs_nobody_in(browser: Browser, where: str) -> None:
    await browser.sign_in(TOKEN)
    name, _, secret = browser.cookie.partition("=")
    query = where.format(name=name, secret=secret)
    (await browser.api.get(f"/runs?{query}")).problem(401, "unauthorized")
    (await browser.api.get(f"/runs;{query}")).problem(401, "unauthorized")
    browser.cookie = ""
    assert (await browser.get(f"/account?{query}")).status == 303


async def test_a_secret_of_a_session_is_no_bearer_token(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    secret = browser.cookie.partition("=")[2]
    (await browser.api.get("/runs", headers={"Authorization": f"Bearer {secret}"})).problem(401, "unauthorized")


async def test_a_wrong_bearer_token_is_refused_whatever_the_cookie_is(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    headers = {"Cookie": browser.cookie, "Authorization": "Bearer wrong"}
    (await browser.api.get("/runs", headers=headers)).problem(401, "unauthorized")
    behind_a_proxy = {"Cookie": browser.cookie, "Authorization": "Basic dTpw"}
    assert (await browser.api.get("/runs", headers=behind_a_proxy)).status == 200


async def test_the_bearer_token_comes_first(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    headers = {"Cookie": browser.cookie, "Authorization": f"Bearer {key_of('ann')}"}
    await browser.api.post("/runs", NEW_RUN, headers=headers)
    assert {each["actor"] for each in read("SELECT actor FROM events")} == {"key:ann"}


SENT_FROM = [
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
    ({"Origin": "{own}"}, True),
    ({}, False),
    ({"Sec-Fetch-Site": "none"}, False),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "same-site", "Origin": "{own}"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "{own}"}, False),
    ({"Sec-Fetch-Site": ""}, False),
    ({"Sec-Fetch-Site": "Same-Origin"}, False),
    ({"Sec-Fetch-Site": "same-origin, cross-site"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "{own}.evil.example"}, False),
    ({"Origin": "http://localhost:1"}, False),
    ({"Origin": "http://127.0.0.1"}, False),
    ({"Origin": "{tls}"}, False),
    ({"Origin": "{own}/"}, False),
    ({"Origin": "http://["}, False),
    ({"Origin": "{own}", "Host": "vm.example"}, False),
    ({"Referer": "{own}/account"}, False),
]


@pytest.mark.parametrize(("headers", "ours"), SENT_FROM)
async def test_only_a_page_of_this_origin_changes_anything(
    browser: Browser, headers: dict[str, str], ours: bool
) -> None:
    own = browser.api.base_url
    given = {
        name: value.replace("{own}", own).replace("{tls}", own.replace("http:", "https:"))
        for name, value in headers.items()
    }
    signed_in = await browser.post("/sign-in", given, key=TOKEN)
    assert signed_in.status == (303 if ours else 403)
    await browser.sign_in(TOKEN)
    created = await browser.api.post("/runs", NEW_RUN, headers={"Cookie": browser.cookie} | given)
    if ours:
        assert created.status == 201
    else:
        created.problem(403, "cross_site")
    assert (await browser.api.get("/runs", headers={"Cookie": browser.cookie} | given)).status == 200
    assert (await browser.post("/sign-out", given)).status == (303 if ours else 403)
    assert await browser.actor() == (None if ours else "admin")


async def test_over_tls_an_origin_of_plain_http_is_foreign(public: Api) -> None:
    browser = Browser(public, X_Forwarded_Proto="https", Host="vm.example")
    assert (await browser.post("/sign-in", {"Origin": "http://vm.example"}, key=TOKEN)).status == 403
    for host in ("vm.example", "VM.example:443"):
        browser.further["Host"] = host
        assert (await browser.post("/sign-in", {"Origin": "https://vm.example"}, key=TOKEN)).status == 303


async def test_a_form_of_another_site_neither_signs_in_nor_opens_a_session(browser: Browser) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    response = await browser.post("/sign-in", foreign, key=TOKEN)
    assert (response.status, response.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "Set-Cookie" not in response.headers
    assert read("SELECT 1 AS one FROM sessions") == []


@pytest.mark.parametrize(
    ("body", "type_", "status"),
    [
        (b"{}", "application/json", 415),
        (b"key=a", "text/plain", 415),
        (b"key=a", "multipart/form-data; boundary=x", 415),
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


async def test_pages_are_kept_by_no_cache_and_name_no_secret(browser: Browser) -> None:
    await browser.sign_in(TOKEN)
    for path in ("/sign-in", "/account"):
        response = await browser.get(path)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert browser.cookie.partition("=")[2] not in response.body.decode()
        # Nothing that the policy default-src 'self' would block.
        assert not re.search(
            r"<script(?! src=\"/static/)|<style|style=|\son\w+=|data:|https?://", response.body.decode()
        )


async def test_what_pages_refer_to_needs_no_credentials_and_is_sent_once(browser: Browser) -> None:
    paths = re.findall(r'href="(/static/[^"]+)"', (await browser.get("/sign-in")).body.decode())
    css = "text/css; charset=utf-8"
    types = {"style.css": css, "site.css": css, "icon.svg": "image/svg+xml; charset=utf-8"}
    assert sorted(path.partition("?")[0] for path in paths) == sorted(f"/static/{name}" for name in types)
    for path in paths:
        response = await browser.get(path)
        name = path.partition("?")[0].rpartition("/")[2]
        assert (response.status, response.headers["Content-Type"]) == (200, types[name])
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        packed = await browser.get(path, {"Accept-Encoding": "gzip"})
        assert gzip.decompress(packed.body) == (await browser.get(path, {"Accept-Encoding": "identity"})).body
        older = await browser.get(f"/static/{name}?v=0")
        assert older.headers["Cache-Control"] == "no-cache"
        again = await browser.get(path, {"If-None-Match": response.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
    assert (await browser.get("/static/../sign_in.py")).status == 303
    assert (await browser.get("/static/%2e%2e/table.py")).status == 303


async def test_without_the_database_the_page_says_so(behind_proxy: Api, proxy: Proxy) -> None:
    del behind_proxy.session.headers["Authorization"]
    browser = Browser(behind_proxy)
    assert (await browser.sign_in(TOKEN)).status == 303
    proxy.cut()
    for response in (await browser.get("/account"), await browser.sign_in(TOKEN)):
        assert response.status == 503
        assert "try again in a moment" in response.body.decode()
        assert response.headers["X-Request-ID"] in response.body.decode()
    (await behind_proxy.get("/runs", headers={"Cookie": browser.cookie})).problem(503, "database_unavailable")
    assert (await behind_proxy.get("/health/live", headers={"Cookie": browser.cookie})).status == 200


async def test_a_probe_never_looks_up_a_session(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    await browser.sign_in(TOKEN)
    monkeypatch.setattr("vm_webapp.access.sessions.find_session", lambda *_: pytest.fail("it asked the database"))
    assert (await browser.api.get("/health/live", headers={"Cookie": browser.cookie})).status == 200


async def test_lookups_are_remembered_and_what_was_ended_meanwhile_is_not(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.auth.credential_cache.CACHE_SECONDS", 60.0)
    await browser.sign_in(TOKEN)
    real, found, go_on = sessions.find_session, threading.Event(), threading.Event()

    def find_slowly(*given: object) -> object:
        result = real(*given)  # type: ignore[arg-type]
        found.set()
        assert go_on.wait(10)
        return result

    monkeypatch.setattr("vm_webapp.access.sessions.find_session", find_slowly)
    pending = asyncio.create_task(browser.actor())
    await until(found.is_set)
    (ended,) = read("SELECT id FROM sessions")
    ours = {"Authorization": f"Bearer {TOKEN}"}
    assert (await browser.api.post(f"/sessions/{ended['id']}/end", None, headers=ours)).status == 200
    go_on.set()
    assert await pending == "admin"  # it was when it was looked up
    assert await browser.actor() is None


async def test_an_open_api_serves_the_pages_and_takes_a_session_for_who_it_is(api: Api) -> None:
    browser = Browser(api)
    assert await browser.actor() == "Nobody has to sign in here"
    browser.cookie = f"vm-{port_of(api)}={STRANGER}"
    assert await browser.actor() == "Nobody has to sign in here"
    await browser.sign_in(key_of("ann", "viewer"))
    assert await browser.actor() == "key:ann"
    ours = {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-origin"}
    (await api.post("/runs", NEW_RUN, headers=ours)).problem(403, "forbidden")
    foreign = {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-site"}
    (await api.post("/runs", NEW_RUN, headers=foreign)).problem(403, "cross_site")
    assert (await browser.get("/account", {"Host": "evil.example", "Cookie": "a=b"})).status == 403
    await browser.post("/sign-out")
    assert await browser.actor() == "Nobody has to sign in here"


async def test_signing_in_and_out_is_recorded_with_its_actor(browser: Browser) -> None:
    await browser.sign_in(key_of("ann"))
    await browser.sign_in(TOKEN)
    await browser.post("/sign-out")
    first, second = (f"session:{each['id']}" for each in read("SELECT id FROM sessions ORDER BY created_at, id"))
    found = [(each["actor"], each["action"], each["target"]) for each in entries() if each["action"] != "key.create"]
    assert found == [
        ("key:ann", "session.open", first),
        ("admin", "session.end", first),
        ("admin", "session.open", second),
        ("admin", "session.end", second),
    ]
    assert {each["address"] for each in entries() if each["actor"] == "admin"} == {"127.0.0.1"}
    assert all(each["request_id"] for each in entries() if each["actor"] == "admin")


async def refused_as(browser: Browser) -> list[str]:
    """Return the reasons of the refusals that were recorded, once there is one."""
    await until(lambda: bool(entries(result="refused")))
    found = entries(result="refused")
    assert TOKEN not in str(found)
    assert "vms_" not in str(found)
    return [each["data"]["reason"] for each in found]


async def test_a_wrong_key_is_recorded(browser: Browser) -> None:
    await browser.sign_in("vmk_wrong")
    assert await refused_as(browser) == ["wrong_key"]


@pytest.mark.parametrize(
    ("cookie", "reason"),
    [
        (f"{{name}}={STRANGER}", "invalid_session"),
        ("{name}=nonsense", "invalid_session"),
        ("{cookie}; {cookie}", "doubled_cookie"),
        ("theme=dark", "unauthorized"),
    ],
)
async def test_a_forged_or_doubled_cookie_is_recorded_and_told_the_same(
    browser: Browser, cookie: str, reason: str
) -> None:
    await browser.sign_in(TOKEN)
    name = browser.cookie.partition("=")[0]
    sent = cookie.format(name=name, cookie=browser.cookie)
    told = (await browser.api.get("/runs", headers={"Cookie": sent})).problem(401, "unauthorized")
    assert told["detail"] == (await browser.api.get("/runs")).problem(401, "unauthorized")["detail"]
    assert reason in await refused_as(browser)


async def test_a_session_of_a_revoked_key_is_recorded(browser: Browser) -> None:
    await browser.sign_in(key_of("ann"))
    revoke_key("ann", actor=OPERATOR)
    assert await browser.actor() is None
    assert await refused_as(browser) == ["invalid_session"]


async def test_a_form_of_another_site_is_recorded(browser: Browser) -> None:
    await browser.post("/sign-in", {"Sec-Fetch-Site": "cross-site"}, key=TOKEN)
    assert await refused_as(browser) == ["cross_site"]


async def test_plain_http_from_the_network_is_recorded(public: Api) -> None:
    browser = Browser(public)
    await browser.sign_in(TOKEN)
    assert await refused_as(browser) == ["https_required"]


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
