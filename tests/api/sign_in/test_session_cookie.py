"""The cookie of a session: how it is set, and what does not pass for it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from multidict import CIMultiDict

from tests.api.browsers import Browser
from tests.api.client import NEW_RUN, Api
from tests.api.conftest import TOKEN, Serving
from tests.api.sign_in.conftest import STRANGER, key_of, port_of
from tests.support.runs import read
from vm_webapp.settings import Settings


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
