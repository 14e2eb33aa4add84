"""Only a page of this origin changes anything."""

from __future__ import annotations

import pytest

from tests.api.browsers import Browser
from tests.api.client import NEW_RUN, Api
from tests.api.conftest import TOKEN
from tests.support.runs import read

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
