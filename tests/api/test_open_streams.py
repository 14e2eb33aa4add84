"""Streams and waiting requests of a key: so many at most, and none after the key is no longer in force."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aiohttp
import pytest

from api.auth.credential_cache import CACHE_SECONDS
from api.http.threads import Threads
from api.streams import open_streams
from api.streams.open_streams import ABORT_SECONDS, FIRST_CHECK_SECONDS, MOST_OPEN, OpenStreams
from tests.api.client import Api, until
from tests.api.conftest import MANAGED, TOKEN, Serving
from tests.fakes.tcp_proxy import Proxy
from tests.support.actors import OPERATOR
from tests.support.fleet import change
from tests.support.runs import create
from vm_webapp.access.actor import Actor
from vm_webapp.access.in_force import find_in_force
from vm_webapp.access.keys import NewKey, create_key, revoke_key
from vm_webapp.access.sessions import SessionRules
from vm_webapp.access.tokens import digest_of_token
from vm_webapp.runs import lifecycle

STREAM = {"Accept": "text/event-stream"}


def bearer(key: NewKey) -> dict[str, str]:
    """Return the header with this key."""
    return {"Authorization": f"Bearer {key.secret}"}


@pytest.fixture
def key(database: str) -> NewKey:
    """A key."""
    return create_key("ann", actor=OPERATOR)


@pytest.fixture
def run_id(database: str) -> UUID:
    """A run that does not end by itself."""
    return create().run.id


async def open_stream(api: Api, run_id: UUID, headers: dict[str, str]) -> aiohttp.ClientResponse:
    """Open a stream and return it when its first event has arrived."""
    stream = await api.session.get(f"{api.base_url}/api/v2/runs/{run_id}/events", headers=STREAM | headers)
    assert stream.status == 200
    await stream.content.readline()
    return stream


async def test_a_stream_ends_when_its_key_is_revoked(managed: Api, key: NewKey, run_id: UUID) -> None:
    other = create_key("bob", actor=OPERATOR)
    stream, kept = [await open_stream(managed, run_id, bearer(each)) for each in (key, other)]
    revoke_key("ann", actor=OPERATOR)
    async with asyncio.timeout(5.0):
        await stream.content.read()  # to the end, which is a proper one
    assert len(managed.services.open_streams) == 1
    assert lifecycle.cancel_run_if_open(run_id, actor=OPERATOR)
    assert b"run.canceled" in await asyncio.wait_for(kept.content.read(), 5.0)


async def test_a_stream_ends_when_its_key_expires(managed: Api, key: NewKey, run_id: UUID) -> None:
    stream = await open_stream(managed, run_id, bearer(key))
    change("UPDATE api_keys SET expires_at = clock_timestamp() + interval '1 s'")
    async with asyncio.timeout(5.0):
        await stream.content.read()


async def test_a_waiting_request_is_refused_when_its_key_is_revoked(managed: Api, key: NewKey, run_id: UUID) -> None:
    waiting = asyncio.create_task(managed.get(f"/runs/{run_id}?wait=30", headers=bearer(key)))
    await until(lambda: managed.services.followers.waiting == 1)
    revoke_key("ann", actor=OPERATOR)
    (await asyncio.wait_for(waiting, 5.0)).problem(401, "unauthorized")


async def test_a_client_that_does_not_read_loses_its_stream_too(managed: Api, key: NewKey, run_id: UUID) -> None:
    change(
        "INSERT INTO events (run_id, type, actor, data) SELECT %(id)s, 'stage.queued', 'x',"
        " jsonb_build_object('said', repeat('x', 8000)) FROM generate_series(1, 2000)",
        id=run_id,
    )
    address = urlsplit(managed.base_url)
    with socket.create_connection((address.hostname, address.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"GET /api/v2/runs/{run_id}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        client.sendall(f"{head}Authorization: Bearer {key.secret}\r\n\r\n".encode())
        await until(lambda: len(managed.services.open_streams) == 1)
        revoke_key("ann", actor=OPERATOR)
        await until(lambda: len(managed.services.open_streams) == 0)


def test_a_stream_opened_with_a_key_that_is_still_remembered_ends_within_five_seconds() -> None:
    query_seconds = 0.2
    assert CACHE_SECONDS + FIRST_CHECK_SECONDS + ABORT_SECONDS + query_seconds < 5.0


async def test_a_key_holds_only_so_many_open(
    managed: Api, key: NewKey, run_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_streams, "MOST_OPEN", 2)
    path = f"/runs/{run_id}/events"
    streams = [await open_stream(managed, run_id, bearer(key)) for _ in range(2)]
    refused = await managed.get(path, headers=STREAM | bearer(key))
    refused.problem(429, "too_many_streams")
    assert refused.headers["Retry-After"] == "1"
    (await managed.get(f"/runs/{run_id}?wait=1", headers=bearer(key))).problem(429, "too_many_streams")
    assert (await managed.get(f"/runs/{run_id}", headers=bearer(key))).status == 200
    other = create_key("bob", actor=OPERATOR)
    (await open_stream(managed, run_id, bearer(other))).close()
    streams[0].close()
    await until(lambda: len(managed.services.open_streams) == 1)
    (await open_stream(managed, run_id, bearer(key))).close()


async def test_the_token_holds_any_number_open_and_is_never_checked(managed: Api, run_id: UUID) -> None:
    with ExitStack() as opened:
        for _ in range(MOST_OPEN + 1):
            stream = await open_stream(managed, run_id, {"Authorization": f"Bearer {TOKEN}"})
            opened.callback(stream.close)
        assert len(managed.services.open_streams) == 0


class Checks:
    """Notes which callers are checked, each of whom is in force."""

    def __init__(self) -> None:
        self.asked: list[set[tuple[UUID | None, UUID | None]]] = []

    def __call__(self, callers: object) -> set[tuple[UUID | None, UUID | None]]:
        asked: set[tuple[UUID | None, UUID | None]] = set(callers)  # type: ignore[call-overload]
        self.asked.append(asked)
        return asked


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    """A thread for checks."""
    threads = Threads(1, 8, "checks", limit_seconds=5.0)
    yield threads
    threads.close()


async def test_all_callers_are_checked_by_one_query_and_only_while_something_is_open(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_streams, "FIRST_CHECK_SECONDS", 0.02)
    monkeypatch.setattr(open_streams, "CHECK_SECONDS", 0.04)
    checks, ids = Checks(), [uuid4() for _ in range(3)]
    streams = OpenStreams(threads, checks)
    with ExitStack() as held:
        for id in ids * 5:
            held.enter_context(streams.hold(Actor("key:x", id=str(id), key_id=id)))
        await until(lambda: len(checks.asked) >= 3)
    assert all(asked == {(id, None) for id in ids} for asked in checks.asked)
    await asyncio.sleep(0.2)
    seen = len(checks.asked)
    await asyncio.sleep(0.2)
    assert len(checks.asked) == seen
    await streams.close()


async def test_a_database_that_does_not_respond_ends_no_stream(
    serving: Serving, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_streams, "CHECK_SECONDS", 0.1)
    key, run_id = create_key("ann", actor=OPERATOR), create().run.id
    async with serving(MANAGED, require_token=True) as api:
        stream = await open_stream(api, run_id, bearer(key))
        proxy.cut()
        await asyncio.sleep(0.5)
        assert len(api.services.open_streams) == 1
        proxy.restore()
        revoke_key("ann", actor=OPERATOR)
        async with asyncio.timeout(5.0):
            await stream.content.read()


def test_keys_and_sessions_in_force_are_found_together(database: str) -> None:
    names = ["valid", "revoked", "expired"]
    valid, revoked, expired = [create_key(name, actor=OPERATOR) for name in names]
    revoke_key("revoked", actor=OPERATOR)
    change("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    of_keys = {"open": valid, "ended": valid, "idle": valid, "old": valid, "of a revoked key": revoked}
    sessions = {name: uuid4() for name in (*of_keys, "of the token", "of a token that was changed")}
    for name, key in of_keys.items():
        change(
            "INSERT INTO sessions (id, secret_sha256, key_id) VALUES (%(id)s, uuid_send(%(id)s), %(key_id)s)",
            id=sessions[name],
            key_id=key.id,
        )
    for name, token in (("of the token", TOKEN), ("of a token that was changed", "another")):
        change(
            "INSERT INTO sessions (id, secret_sha256, token_sha256) VALUES (%(id)s, uuid_send(%(id)s), %(token)s)",
            id=sessions[name],
            token=digest_of_token(token),
        )
    change("UPDATE sessions SET ended_at = now() WHERE id = %(id)s", id=sessions["ended"])
    change("UPDATE sessions SET last_seen_at = now() - interval '1 h' WHERE id = %(id)s", id=sessions["idle"])
    change("UPDATE sessions SET created_at = now() - interval '1 d' WHERE id = %(id)s", id=sessions["old"])
    good = {(valid.id, None), (valid.id, sessions["open"]), (None, sessions["of the token"])}
    bad = {
        *{(revoked.id, None), (expired.id, None), (uuid4(), None), (None, uuid4())},
        *{(valid.id, sessions[name]) for name in ("ended", "idle", "old")},
        *{(revoked.id, sessions["of a revoked key"]), (None, sessions["of a token that was changed"])},
    }
    rules = SessionRules(timedelta(hours=1), timedelta(days=1), TOKEN)
    assert find_in_force(good | bad, rules) == good
    assert find_in_force((), rules) == set()
