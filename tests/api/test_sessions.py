"""GET /sessions, POST /sessions/{id}/end and POST /sessions/end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.browsers import Browser
from tests.api.client import Api
from tests.api.conftest import TOKEN, Serving
from tests.support.actors import OPERATOR
from vm_webapp.access.keys import create_key, revoke_key
from vm_webapp.access.roles import Role
from vm_webapp.settings import Settings

NOBODY = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"


def bearer(name: str, role: Role = "viewer") -> dict[str, str]:
    """Return the header with a new key."""
    return {"Authorization": f"Bearer {create_key(name, actor=OPERATOR, role=role).secret}"}


async def signed_in(api: Api, credentials: dict[str, str]) -> dict[str, str]:
    """Sign in with the key of a header; return the headers of the browser's own pages."""
    browser = Browser(api)
    assert (await browser.sign_in(credentials["Authorization"].removeprefix("Bearer "))).status == 303
    return {"Cookie": browser.cookie, "Sec-Fetch-Site": "same-origin"}


async def listed(api: Api, headers: dict[str, str], query: str = "") -> list[dict[str, Any]]:
    """Return the sessions that a caller sees."""
    response = await api.get(f"/sessions{query}", headers=headers)
    assert response.status == 200, response.body
    items: list[dict[str, Any]] = response.json()["items"]
    return items


@pytest.fixture(autouse=True)
def looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.credential_cache.CACHE_SECONDS", 0.0)


ADMIN = {"Authorization": f"Bearer {TOKEN}"}


async def test_a_caller_sees_the_own_sessions_and_an_admin_asks_for_all(managed: Api) -> None:
    ann, bob = bearer("ann"), bearer("bob")
    for each in (ann, ann, bob, ADMIN):
        await signed_in(managed, each)
    assert [each["actor"] for each in await listed(managed, ann)] == ["key:ann", "key:ann"]
    assert [each["actor"] for each in await listed(managed, ADMIN)] == ["admin"]
    found = await listed(managed, ADMIN, "?all=true")
    assert [each["actor"] for each in found] == ["admin", "key:bob", "key:ann", "key:ann"]
    told = {name: found[1][name] for name in ("actor", "role", "address", "user_agent")}
    assert told == {"actor": "key:bob", "role": "viewer", "address": "127.0.0.1", "user_agent": "Test/1.0"}
    (await managed.get("/sessions?all=true", headers=ann)).problem(403, "forbidden")
    assert (await managed.get("/sessions?all=perhaps", headers=ann)).wrong(422, "invalid_parameter") == {"all"}


async def test_pages_of_sessions_lead_to_the_next(managed: Api) -> None:
    ann = bearer("ann")
    for _ in range(3):
        await signed_in(managed, ann)
    first = (await managed.get("/sessions?limit=2", headers=ann)).json()
    rest = await listed(managed, ann, f"?limit=2&cursor={first['next_cursor']}")
    assert len({each["id"] for each in [*first["items"], *rest]}) == 3


async def test_sessions_of_a_revoked_key_are_not_listed(managed: Api) -> None:
    await signed_in(managed, bearer("ann"))
    revoke_key("ann", actor=OPERATOR)
    assert await listed(managed, ADMIN, "?all=true") == []


async def test_a_session_is_ended_by_its_owner_and_by_an_admin(managed: Api) -> None:
    ann = bearer("ann")
    for ender in (ann, ADMIN):
        browser = await signed_in(managed, ann)
        (session,) = await listed(managed, ann)
        ended = await managed.post(f"/sessions/{session['id']}/end", None, headers=ender)
        assert (ended.status, ended.json()) == (200, {"ended": 1})
        (await managed.get("/runs", headers=browser)).problem(401, "unauthorized")
        assert (await managed.post(f"/sessions/{session['id']}/end", None, headers=ender)).status == 200


async def test_nobody_ends_or_finds_out_about_the_session_of_another(managed: Api) -> None:
    browser = await signed_in(managed, bearer("ann"))
    (session,) = await listed(managed, ADMIN, "?all=true")
    bob = bearer("bob", "operator")
    for id in (session["id"], NOBODY):
        refused = await managed.post(f"/sessions/{id}/end", None, headers=bob)
        assert "there is no session" in refused.problem(404, "not_found")["detail"]
    assert (await managed.get("/runs", headers=browser)).status == 200


async def test_signing_out_everywhere_ends_what_this_key_has_opened(managed: Api) -> None:
    ann = bearer("ann")
    browsers = [await signed_in(managed, each) for each in (ann, ann, bearer("bob"))]
    ended = await managed.post("/sessions/end", None, headers=browsers[0])
    assert (ended.status, ended.json()) == (200, {"ended": 2})
    statuses = [(await managed.get("/runs", headers=each)).status for each in browsers]
    assert statuses == [401, 401, 200]


async def test_ending_is_at_once_though_lookups_are_remembered(managed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.credential_cache.CACHE_SECONDS", 60.0)
    ann = bearer("ann")
    keyed = ann | {"Idempotency-Key": "once"}
    for path, headers in (("/sessions/{id}/end", ann), ("/sessions/end", ann), ("/sessions/end", keyed)):
        browser = await signed_in(managed, ann)
        assert (await managed.get("/runs", headers=browser)).status == 200
        (session,) = await listed(managed, ann)
        assert (await managed.post(path.format(id=session["id"]), None, headers=headers)).status == 200
        (await managed.get("/runs", headers=browser)).problem(401, "unauthorized")


async def test_another_token_ends_the_sessions_of_the_one_before(serving: Serving, database: str) -> None:
    async with serving(Settings(managed=True, api_token=TOKEN), require_token=True) as api:
        browser = Browser(api)
        await browser.sign_in(TOKEN)
        secret = browser.cookie.partition("=")[2]
    async with serving(Settings(managed=True, api_token="another"), require_token=True) as api:
        cookie = {"Cookie": f"vm-{api.base_url.rpartition(':')[2]}={secret}"}
        (await api.get("/runs", headers=cookie)).problem(401, "unauthorized")
        assert await listed(api, {"Authorization": "Bearer another"}, "?all=true") == []


async def test_on_an_open_api_nobody_has_own_sessions(api: Api) -> None:
    await signed_in(api, bearer("ann"))
    assert await listed(api, {}) == []
    assert len(await listed(api, {}, "?all=true")) == 1
    assert (await api.post("/sessions/end", None)).json() == {"ended": 0}
