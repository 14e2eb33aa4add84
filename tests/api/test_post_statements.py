"""What POST /runs costs PostgreSQL: a message is a round trip, and a commit waits for the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from tests.api.client import NEW_RUN
from tests.api.conftest import Serving
from tests.support.fleet import beat, change
from tests.support.runs import read
from tests.support.statements import Query, counted
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.fleet.installation import find_fingerprint

KEYS = count()
Post = Callable[..., Awaitable[list[Query]]]


@pytest.fixture
async def post(serving: Serving, database: str) -> AsyncIterator[Post]:
    """Create a run, with these fields, and return the queries of that request."""
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        find_fingerprint()  # or a thread that sends hints would, at any time after the first request
        async with serving() as api:

            async def create(*, keyed: bool, **fields: Any) -> list[Query]:
                queries: list[Query] = []
                for _ in range(2):  # the first request prepares the statements
                    traffic.taken()
                    headers = {"Idempotency-Key": f"key {next(KEYS)}"} if keyed else {}
                    response = await api.post("/runs", NEW_RUN | fields, headers=headers)
                    assert response.status == 201, response.body
                    queries = traffic.taken()
                return queries

            yield create
        close_pool()


def statements(queries: list[Query]) -> list[str]:
    """Return the statements without BEGIN and COMMIT; all of them are prepared."""
    found = [each.sql.removeprefix("BEGIN; ") for each in queries if each.sql != "COMMIT"]
    assert all(sql.startswith("EXECUTE ") for sql in found), found
    return found


async def test_a_run_is_created_by_one_statement_that_commits_by_itself(post: Post) -> None:
    beat()
    queries = await post(keyed=False)
    assert len(queries) == len(statements(queries)) == 1
    assert sum(query.commits for query in queries) == 1


async def test_under_a_key_it_is_one_transaction_of_three_round_trips(post: Post) -> None:
    beat()
    queries = await post(keyed=True)
    # The key's lock, and the look for its response, which has a snapshot of its own from after the lock; the run; the
    # response.
    sent = [[each.split()[0] for each in query.sql.split("; ")] for query in queries]
    assert sent == [["BEGIN", "EXECUTE", "EXECUTE"], ["EXECUTE"], ["EXECUTE", "COMMIT"]]
    assert sum(query.commits for query in queries) == 1


async def test_a_brand_is_locked_in_the_transaction_that_creates_the_run(post: Post) -> None:
    change("INSERT INTO brands (id, name) VALUES (uuidv7(), 'One')")
    (brand,) = read("SELECT id::text FROM brands")
    queries = await post(keyed=False, brand_id=brand["id"])
    assert [queries[0].sql.startswith("BEGIN; SELECT "), queries[-1].sql, len(queries)] == [True, "COMMIT", 3]


async def test_pauses_are_read_only_where_one_holds_the_run_back(post: Post) -> None:
    change("INSERT INTO providers (name, paused_at) VALUES ('another', now())")
    beat()
    assert len(await post(keyed=False)) == 1
    change("UPDATE queues SET paused_at = now()")
    assert len(await post(keyed=False)) == 2
