"""Runs a day for each key: exactly as many as it may create, by the database's day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.api.client import NEW_RUN, Api, written
from tests.api.conftest import TOKEN, Serving
from tests.support.actors import OPERATOR
from tests.support.fleet import beat, change
from tests.support.runs import read
from tests.support.statements import counted
from vm_webapp.access.keys import NewKey, create_key
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.settings import Settings

SETTINGS = Settings(managed=True, api_token=TOKEN, runs_per_day=3)


def bearer(key: NewKey) -> dict[str, str]:
    """Return the header with this key."""
    return {"Authorization": f"Bearer {key.secret}"}


@pytest.fixture
async def limited(serving: Serving, database: str) -> AsyncIterator[Api]:
    """The API of a deployment in which a key may create three runs a day."""
    async with serving(SETTINGS, require_token=True) as running:
        yield running


async def create(api: Api, key: NewKey, **headers: str) -> int:
    """Create a run and return the response's status."""
    return (await api.post("/runs", NEW_RUN, headers=bearer(key) | headers)).status


async def test_a_key_creates_as_many_runs_as_it_may_and_no_more_until_midnight(limited: Api) -> None:
    key, other = create_key("ci", actor=OPERATOR), create_key("other", actor=OPERATOR)
    assert [await create(limited, key) for _ in range(4)] == [201, 201, 201, 429]
    before = written()
    refused = await limited.post("/runs", NEW_RUN, headers=bearer(key))
    assert "3 runs" in refused.problem(429, "quota_exceeded")["detail"]
    (midnight,) = read(
        "SELECT extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day'"
        " - now() AT TIME ZONE 'UTC')::float8 AS seconds"
    )
    assert 0 <= int(refused.headers["Retry-After"]) - midnight["seconds"] < 10
    assert refused.headers["RateLimit-Policy"] == '"requests";q=6000;w=60, "runs";q=3;w=86400'
    assert written() == before
    assert len(read("SELECT 1 AS found FROM audit_entries WHERE action = 'run.create'")) == 3
    assert await create(limited, other) == 201


async def test_a_day_later_it_may_create_runs_again(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    assert [await create(limited, key) for _ in range(4)] == [201, 201, 201, 429]
    change("UPDATE runs_of_day SET day = day - 1")
    assert [await create(limited, key) for _ in range(4)] == [201, 201, 201, 429]


async def test_a_run_that_was_created_within_the_quota_is_like_any_other(limited: Api) -> None:
    beat()
    key = create_key("ci", actor=OPERATOR)
    token = {"Authorization": f"Bearer {TOKEN}"}
    runs = [(await limited.post("/runs", NEW_RUN, headers=headers)).json() for headers in (bearer(key), token)]
    for run in runs:
        kept = (await limited.get(f"/runs/{run['id']}", headers=token)).json()
        assert kept == run
        events = (await limited.get(f"/runs/{run['id']}/events", headers=token)).json()["items"]
        assert [(each["type"], each["stage"]) for each in events] == [
            ("run.created", None),
            ("stage.queued", "topic_map"),
        ]
        assert events[0]["data"] == {"workflow": NEW_RUN["workflow"]}
    entries = read("SELECT actor, actor_id, target, data FROM audit_entries WHERE action = 'run.create' ORDER BY id")
    assert entries == [
        {"actor": actor, "actor_id": id, "target": f"run:{run['id']}", "data": {"workflow": NEW_RUN["workflow"]}}
        for actor, id, run in zip(("key:ci", "admin"), (str(key.id), "token"), runs, strict=True)
    ]


async def test_a_fork_counts_as_a_run(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    run = (await limited.post("/runs", NEW_RUN, headers=bearer(key))).json()
    path = f"/runs/{run['id']}/fork"
    statuses = [(await limited.post(path, {"from_stage": "topic_map"}, headers=bearer(key))).status for _ in range(3)]
    assert statuses == [201, 201, 429]
    assert await create(limited, key) == 429


async def test_what_is_refused_or_repeated_does_not_count(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    once = {"Idempotency-Key": "once"}
    assert [await create(limited, key, **once) for _ in range(4)] == [201] * 4
    wrong = {"brand_id": "01990000-0000-7000-8000-000000000000"}
    assert (await limited.post("/runs", NEW_RUN | wrong, headers=bearer(key))).status == 422
    assert [await create(limited, key, **{"Idempotency-Key": f"{n}"}) for n in range(3)] == [201, 201, 429]
    assert await create(limited, key, **once) == 201


async def test_many_at_once_create_as_many_as_the_key_may_and_not_one_more(limited: Api) -> None:
    key = create_key("ci", actor=OPERATOR)
    statuses = await asyncio.gather(*(create(limited, key) for _ in range(30)))
    assert sorted(statuses) == [201] * 3 + [429] * 27
    assert written()["runs"] == 3


async def test_the_admin_token_creates_any_number(limited: Api) -> None:
    token = {"Authorization": f"Bearer {TOKEN}"}
    assert {(await limited.post("/runs", NEW_RUN, headers=token)).status for _ in range(5)} == {201}


@pytest.mark.parametrize("runs_per_day", [None, 100])
async def test_the_quota_costs_no_statement(serving: Serving, database_url: str, runs_per_day: int | None) -> None:
    with counted(database_url) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        key = create_key("ci", actor=OPERATOR)
        beat()
        async with serving(replace(SETTINGS, runs_per_day=runs_per_day), require_token=True) as api:
            for _ in range(2):  # the first request prepares the statements, and looks the key up
                traffic.taken()
                assert await create(api, key) == 201
            assert [query.commits for query in traffic.taken()] == [True]
        close_pool()
