"""What ends a session, at once and everywhere."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from tests.api.browsers import Browser
from tests.api.client import Api, until
from tests.api.conftest import TOKEN
from tests.api.sign_in.conftest import STRANGER, key_of, port_of
from tests.support.actors import OPERATOR
from tests.support.runs import read
from vm_webapp.access import sessions
from vm_webapp.access.keys import revoke_key
from vm_webapp.db.pool import execute, transaction


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
