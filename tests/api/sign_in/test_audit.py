"""Signing in and out is recorded, and so is what was refused."""

from __future__ import annotations

import pytest

from tests.api.browsers import Browser
from tests.api.client import Api, until
from tests.api.conftest import TOKEN
from tests.api.sign_in.conftest import STRANGER, key_of
from tests.support.actors import OPERATOR
from tests.support.audit import entries
from tests.support.runs import read
from vm_webapp.access.keys import revoke_key


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
