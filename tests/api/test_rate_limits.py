"""Requests a minute for each key: what is admitted, what the headers tell, and what it costs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from api.auth import rate_limits
from api.auth.failed_attempts import MOST_FAILURES
from api.http.problems import RequestError
from tests.api.client import NEW_RUN, Api, Response
from tests.api.conftest import TOKEN, Serving
from tests.fakes.tcp_proxy import Proxy
from tests.support.actors import OPERATOR
from tests.support.fleet import change
from tests.support.runs import read
from tests.support.statements import Traffic, counted
from vm_webapp.access.allowance import REQUESTS_PER_TRIP
from vm_webapp.access.keys import NewKey, create_key, revoke_key
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.settings import Settings

LIMIT = 100
LIMITED = Settings(managed=True, api_token=TOKEN, requests_per_minute=LIMIT)
STANDING = re.compile(r'"requests";r=(\d+);t=(\d+)')


def bearer(key: NewKey) -> dict[str, str]:
    """Return the header with this key."""
    return {"Authorization": f"Bearer {key.secret}"}


def standing(response: Response) -> tuple[int, int]:
    """Return how many requests are left, and in how many seconds the window ends."""
    found = STANDING.fullmatch(response.headers["RateLimit"])
    assert found, response.headers["RateLimit"]
    return int(found[1]), int(found[2])


async def send(api: Api, requests: int, key: NewKey) -> list[Response]:
    """Send so many requests, some at once."""
    responses = []
    for begin in range(0, requests, 20):
        some = (api.get("/workflows", headers=bearer(key)) for _ in range(begin, min(begin + 20, requests)))
        responses += await asyncio.gather(*some)
    return responses


def admitted(responses: list[Response]) -> int:
    """Return how many were admitted; all others must have been refused for the limit."""
    for response in responses:
        if response.status != 200:
            response.problem(429, "rate_limited")
    return sum(response.status == 200 for response in responses)


@pytest.fixture
async def limited(serving: Serving, database: str) -> AsyncIterator[Api]:
    """The API of a deployment with a low limit."""
    async with serving(LIMITED, require_token=True) as running:
        yield running


async def test_a_key_gets_its_limit_and_is_then_told_when_to_come_back(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    assert admitted(await send(limited, 130, key)) == LIMIT
    refused = await limited.get("/workflows", headers=bearer(key))
    assert "100 requests a minute" in refused.problem(429, "rate_limited")["detail"]
    left, reset = standing(refused)
    assert left == 0
    assert 1 <= reset <= int(refused.headers["Retry-After"]) <= 60


async def test_each_key_has_a_limit_of_its_own(limited: Api) -> None:
    one, other = create_key("one", actor=OPERATOR), create_key("other", actor=OPERATOR)
    await send(limited, 110, one)
    assert admitted(await send(limited, 50, other)) == 50


async def test_every_response_tells_a_key_where_it_stands(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    run = await limited.post("/runs", NEW_RUN, headers=bearer(key))
    paths = ["/runs", "/runs?limit=0", "/nowhere", f"/runs/{run.json()['id']}", "/openapi.json"]
    responses = [run, *[await limited.get(path, headers=bearer(key)) for path in paths]]
    assert [response.status for response in responses] == [201, 200, 422, 404, 200, 200]
    assert {response.headers["RateLimit-Policy"] for response in responses} == {'"requests";q=100;w=60'}
    assert [standing(response)[0] for response in responses] == [99, 98, 97, 96, 95, 94]
    assert all(0 < standing(response)[1] <= 60 for response in responses)


async def test_a_stream_tells_it_too(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    run = (await limited.post("/runs", NEW_RUN, headers=bearer(key))).json()
    url, headers = f"{limited.base_url}/api/v2/runs/{run['id']}/events", {"Accept": "text/event-stream"}
    async with limited.session.get(url, headers=headers | bearer(key)) as stream:
        assert STANDING.fullmatch(stream.headers["RateLimit"])


async def test_the_admin_token_and_strangers_have_no_limit(limited: Api) -> None:
    for _ in range(130):
        assert (await limited.get("/workflows", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200
    for response in (
        await limited.get("/workflows", headers={"Authorization": f"Bearer {TOKEN}"}),
        await limited.get("/workflows"),
        await limited.get("/health/live"),
    ):
        assert not {"RateLimit", "RateLimit-Policy"} & set(response.headers)


async def test_an_open_local_api_has_no_limit(serving: Serving, database: str) -> None:
    async with serving(Settings(requests_per_minute=LIMIT)) as api:
        responses = [await api.get("/workflows") for _ in range(130)]
    assert {response.status for response in responses} == {200}
    assert "RateLimit" not in responses[0].headers


async def test_the_next_window_begins_when_the_headers_say_so(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    change("INSERT INTO rate_windows VALUES ('requests ' || %(id)s, now() - interval '57 s', 1000)", id=str(key.id))
    refused = (await send(limited, 1, key))[0]
    refused.problem(429, "rate_limited")
    wait = int(refused.headers["Retry-After"])
    assert 1 <= wait <= 3
    await asyncio.sleep(wait)
    assert admitted(await send(limited, 120, key)) == LIMIT


async def test_processes_share_the_limit(serving: Serving, database: str) -> None:
    key = create_key("ci", actor=OPERATOR)
    settings = Settings(managed=True, requests_per_minute=LIMIT, web_concurrency=2)
    async with serving(settings, require_token=True) as one, serving(settings, require_token=True) as other:
        responses = [await send(each, 80, key) for each in (one, other, one, other)]
    assert LIMIT <= sum(map(admitted, responses)) <= LIMIT * 1.1


def trips(traffic: Traffic) -> int:
    """Return how many portions were asked for."""
    return sum(query.sql.startswith("EXECUTE ") and "('requests " in query.sql for query in traffic.taken())


async def test_a_portion_serves_twenty_requests_at_least(serving: Serving, database_url: str) -> None:
    with counted(database_url) as (traffic, url):
        open_pool(url, max_connections=2, application_name="tests")
        key = create_key("ci", actor=OPERATOR)
        async with serving(Settings(managed=True), require_token=True) as api:
            assert admitted(await send(api, REQUESTS_PER_TRIP - 1, key)) == REQUESTS_PER_TRIP - 1
            assert trips(traffic) == 0
            assert admitted(await send(api, 1000, key)) == 1000
            assert 1 <= trips(traffic) <= 1000 / REQUESTS_PER_TRIP
        (row,) = read("SELECT taken FROM rate_windows")
        assert row["taken"] >= 1000
        close_pool()


async def test_without_the_database_a_process_admits_its_share(serving: Serving, proxy: Proxy) -> None:
    key = create_key("ci", actor=OPERATOR)
    async with serving(Settings(managed=True, requests_per_minute=200, web_concurrency=2), require_token=True) as api:
        assert (await api.get("/workflows", headers=bearer(key))).status == 200
        proxy.cut()
        assert admitted(await send(api, 130, key)) == 99
        refused = await api.get("/workflows", headers=bearer(key))
        refused.problem(429, "rate_limited")
        proxy.restore()


async def test_an_error_that_nobody_expects_stops_no_request(limited: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(*_: object, **__: object) -> None:
        asked.append(1)
        raise KeyError("a bug")

    monkeypatch.setattr(rate_limits, "take", fail)
    assert admitted(await send(limited, 130, create_key("ci", actor=OPERATOR))) == LIMIT
    assert len(asked) <= 2


async def test_a_request_does_not_wait_for_a_database_that_hangs(
    serving: Serving, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "MOST_WAIT_SECONDS", 0.05)
    key = create_key("ci", actor=OPERATOR)
    async with serving(LIMITED, require_token=True) as api:
        assert (await api.get("/workflows", headers=bearer(key))).status == 200
        proxy.stall()
        assert admitted(await asyncio.wait_for(send(api, 60, key), 3.0)) == 60
        proxy.restore()


async def test_unknown_keys_from_one_address_are_refused_after_some(limited: Api) -> None:
    known = create_key("ci", actor=OPERATOR)
    assert (await limited.get("/workflows", headers=bearer(known))).status == 200
    wrong = {"Authorization": "Bearer vmk_wrong"}
    for _ in range(MOST_FAILURES):
        (await limited.get("/workflows", headers=wrong)).problem(401, "unauthorized")
    refused = await limited.get("/workflows", headers=wrong)
    refused.problem(429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    # The keys, and the token, of others at the same address still open the door.
    assert (await limited.get("/workflows", headers=bearer(known))).status == 200
    assert (await limited.get("/workflows", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200
    (await limited.get("/workflows")).problem(401, "unauthorized")


async def test_a_revoked_key_counts_as_unknown(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    revoke_key("ci", actor=OPERATOR)
    statuses = [(await limited.get("/workflows", headers=bearer(key))).status for _ in range(MOST_FAILURES + 1)]
    assert statuses == [401] * MOST_FAILURES + [429]


async def test_an_open_local_api_refuses_no_key(api: Api) -> None:
    wrong = {"Authorization": "Bearer vmk_wrong"}
    assert {(await api.get("/workflows", headers=wrong)).status for _ in range(MOST_FAILURES + 2)} == {200}


async def test_sign_ins_are_refused_after_ten_a_minute(limited: Api) -> None:
    sign_ins = limited.services.sign_in_limit
    for _ in range(10):
        await sign_ins.admit_sign_in("2001:db8::1")
    with pytest.raises(RequestError) as refused:
        await sign_ins.admit_sign_in("2001:db8::2")
    assert (refused.value.http_status, refused.value.code) == (429, "rate_limited")
    assert refused.value.headers is not None
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    await sign_ins.admit_sign_in("2001:db8:1::1")


async def test_a_database_that_is_not_migrated_yet_counts_nothing(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    change("DROP TABLE rate_windows")
    assert admitted(await send(limited, 110, key)) == LIMIT
