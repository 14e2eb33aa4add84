"""API keys grant access while they are valid, and no longer."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.auth import credential_cache, key_cache
from api.auth.key_cache import KeyCache
from tests.api.client import NEW_RUN, Api
from tests.api.conftest import TOKEN, Serving
from tests.fakes.tcp_proxy import Proxy
from tests.support.actors import OPERATOR
from tests.support.runs import read
from vm_webapp.access.actor import Actor
from vm_webapp.access.keys import KeyHolder, create_key, find_key, list_keys, revoke_key
from vm_webapp.access.roles import Role
from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import Conflict, InvalidInput, NotFound
from vm_webapp.settings import Settings


def bearer(secret: str) -> dict[str, str]:
    """Return the header with this secret."""
    return {"Authorization": f"Bearer {secret}"}


async def test_a_key_grants_access_and_is_named_in_the_timeline(managed: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    run = (await managed.post("/runs", NEW_RUN, headers=bearer(key.secret))).json()
    assert {each["actor"] for each in read("SELECT actor FROM events")} == {"key:ci"}
    assert (await managed.get(f"/runs/{run['id']}", headers=bearer(key.secret))).status == 200
    assert (await managed.get("/runs", headers=bearer(TOKEN))).status == 200
    assert list_keys()[0].last_used_at is not None


async def test_only_a_digest_is_stored_and_nothing_shows_the_secret(database: str) -> None:
    key = create_key("ci", actor=OPERATOR)
    stored = str(
        [
            {name: bytes(value) if isinstance(value, memoryview) else value for name, value in each.items()}
            for each in read("SELECT * FROM api_keys")
        ]
    )
    assert key.secret not in stored
    assert key.secret not in repr(key)
    assert key.secret not in repr(list_keys())


async def test_a_revoked_key_is_refused_after_a_few_seconds(managed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential_cache, "CACHE_SECONDS", 0.0)
    key = create_key("ci", actor=OPERATOR)
    assert (await managed.get("/runs", headers=bearer(key.secret))).status == 200
    revoke_key("ci", actor=OPERATOR)
    (await managed.get("/runs", headers=bearer(key.secret))).problem(401, "unauthorized")
    with pytest.raises(NotFound, match="keys list"):
        revoke_key("ci", actor=OPERATOR)


async def test_an_expired_key_is_refused(managed: Api) -> None:
    key = create_key("ci", actor=OPERATOR, lasts=timedelta(minutes=10))
    with transaction():
        execute("UPDATE api_keys SET expires_at = now() - interval '1 s'")
    (await managed.get("/runs", headers=bearer(key.secret))).problem(401, "unauthorized")
    assert list_keys()[0].state == "expired"
    assert create_key("ci", actor=OPERATOR).name == "ci"


@pytest.mark.parametrize("change", ["x", "vmk_", "vmk_" + "A" * 43])
async def test_a_string_that_is_not_a_key_is_refused(managed: Api, change: str) -> None:
    create_key("ci", actor=OPERATOR)
    (await managed.get("/runs", headers=bearer(change))).problem(401, "unauthorized")


async def test_a_refusal_says_how_to_make_a_key(serving: Serving, untouched: None) -> None:
    for settings in (Settings(managed=True), Settings(managed=True, api_token=TOKEN)):
        async with serving(settings, require_token=True) as api:
            assert "python -m vm_webapp keys create" in (await api.get("/runs")).problem(401, "unauthorized")["detail"]


async def test_lookups_of_keys_are_cached_for_a_while_in_a_cache_of_bounded_size(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_cache, "MAX_CACHED", 2)
    asked: list[str] = []

    def find(secret: str) -> KeyHolder | None:
        asked.append(secret)
        return find_key(secret)

    monkeypatch.setattr(key_cache, "find_key", find)
    ring = KeyCache(api.services.threads)
    key = create_key("ci", actor=OPERATOR).secret
    holder = Actor("key:ci", "admin", str(list_keys()[0].id), list_keys()[0].id)
    assert [await ring.actor_with(key), await ring.actor_with(key)] == [holder, holder]
    assert asked == [key]
    strangers = ["vmk_" + letter * 43 for letter in "AB"]
    assert [await ring.actor_with(each) for each in (*strangers, strangers[1], key)] == [None, None, None, holder]
    assert asked == [key, *strangers, key]


async def test_a_probe_never_looks_up_a_key(managed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key = create_key("ci", actor=OPERATOR)
    monkeypatch.setattr(key_cache, "find_key", lambda secret: pytest.fail("it asked the database"))
    assert (await managed.get("/health/live", headers=bearer(key.secret))).status == 200


async def test_without_its_table_keys_are_refused_and_the_token_is_accepted(managed: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    with transaction():
        execute("DROP TABLE sessions, runs_of_day, api_keys")
    (await managed.get("/runs", headers=bearer(key.secret))).problem(401, "unauthorized")
    assert (await managed.get("/runs", headers=bearer(TOKEN))).status == 200


async def test_without_the_database_a_key_gets_503_and_the_token_is_accepted(behind_proxy: Api, proxy: Proxy) -> None:
    key = create_key("ci", actor=OPERATOR)
    proxy.cut()
    (await behind_proxy.get("/workflows", headers=bearer(key.secret))).problem(503, "database_unavailable")
    assert (await behind_proxy.get("/workflows", headers=bearer(TOKEN))).status == 200


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 65, "ä"])
def test_a_malformed_name_is_refused(database: str, name: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 64"):
        create_key(name, actor=OPERATOR)


def test_two_keys_in_force_never_share_a_name(database: str) -> None:
    create_key("ci", actor=OPERATOR)
    with pytest.raises(Conflict, match="revoke it"):
        create_key("ci", actor=OPERATOR)
    revoke_key("ci", actor=OPERATOR)
    create_key("ci", actor=OPERATOR)
    assert [key.state for key in list_keys()] == ["active", "revoked"]


@pytest.mark.parametrize("role", [None, "viewer"])
def test_a_key_is_not_taken_for_a_name_which_would_be_shown(database: str, role: Role | None) -> None:
    secret = create_key("ci", role=role, actor=OPERATOR).secret
    for act in (create_key, revoke_key):
        with pytest.raises(InvalidInput) as refused:
            act(secret, actor=OPERATOR)
        assert secret not in str(refused.value)
    assert [key.state for key in list_keys()] == ["active"]


async def test_an_answer_stored_for_a_key_is_not_given_to_the_next_key_of_its_name(managed: Api) -> None:
    body = {"workflow": "landing_page", "request": "a page"}
    answers = []
    for _ in range(2):
        secret = create_key("ann", role="editor", actor=OPERATOR).secret
        sent = bearer(secret) | {"Idempotency-Key": "4e6d"}
        answers += [await managed.post("/runs", body, headers=sent) for _ in range(2)]
        revoke_key("ann", actor=OPERATOR)
    replayed = ["Idempotency-Replayed" in answer.headers for answer in answers]
    first, again, other, _ = (answer.json()["id"] for answer in answers)
    assert (replayed, again == first, other == first) == ([False, True, False, True], True, False)


async def test_an_answer_that_the_build_before_has_stored_is_repeated(managed: Api) -> None:
    sent = bearer(create_key("ann", actor=OPERATOR).secret) | {"Idempotency-Key": "4e6d"}
    first = await managed.post("/runs", NEW_RUN, headers=sent)
    with transaction():
        execute("UPDATE idempotency_keys SET caller_id = NULL")
    again = await managed.post("/runs", NEW_RUN, headers=sent)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
