"""A POST under a key is executed once, however often and by whichever process."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.api.client import NEW_RUN, Api, Response, written
from tests.api.conftest import MANAGED, TOKEN, Serving
from tests.api.idempotency_locks import held_key
from tests.support.runs import read
from vm_webapp.db.pool import execute, transaction
from vm_webapp.idempotency import KeyScope
from vm_webapp.runs import lifecycle


async def post(api: Api, body: Any = NEW_RUN, *, path: str = "/runs", key: str = "4e6d", **headers: str) -> Response:
    """POST under a key."""
    return await api.post(path, body, headers={"Idempotency-Key": key, **headers})


async def test_the_same_bytes_get_the_same_response_again(api: Api) -> None:
    first = await post(api)
    again = await post(api)
    assert (first.status, "Idempotency-Replayed" in first.headers) == (201, False)
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (201, first.body, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert written()["runs"] == 1


async def test_other_bytes_are_refused(api: Api) -> None:
    await post(api)
    (await post(api, NEW_RUN | {"request": "another"})).problem(422, "idempotency_key_reused")
    assert written()["runs"] == 1


async def test_another_operation_or_key_is_another_scope(api: Api) -> None:
    await post(api)
    assert (await post(api, {"name": "x"}, path="/brands")).status == 201
    assert (await post(api, key="another")).status == 201
    assert written()["runs"] == 2


async def test_a_refusal_is_not_stored(api: Api) -> None:
    (await post(api, NEW_RUN | {"workflow": "nothing"})).problem(422, "invalid_input")
    assert (await post(api)).status == 201


async def test_a_hundred_calls_at_once_have_one_effect_across_two_processes(serving: Serving, database: str) -> None:
    async with serving() as one, serving() as two:
        responses = await asyncio.gather(*(post(api) for _ in range(50) for api in (one, two)))
        assert {response.status for response in responses} <= {201, 409, 503}
        for response in responses:
            if response.status == 409:
                response.problem(409, "idempotency_in_progress")
                assert response.headers["Retry-After"] == "1"
        assert len({response.body for response in responses if response.status == 201}) == 1
        assert written()["runs"] == 1
        assert (await post(two)).headers["Idempotency-Replayed"] == "true"


async def test_a_failure_in_the_middle_leaves_nothing_and_the_key_free(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_runs = lifecycle.create_runs

    def create_and_die(*args: Any, **kwargs: Any) -> Any:
        create_runs(*args, **kwargs)
        raise RuntimeError("the process dies here")

    monkeypatch.setattr(lifecycle, "create_runs", create_and_die)
    (await post(api)).problem(500, "internal_error")
    assert written()["runs"] == 0
    monkeypatch.undo()
    assert (await post(api)).status == 201


async def test_a_call_in_progress_is_a_conflict_and_a_crash_frees_the_key(api: Api, database: str) -> None:
    """Another process holds the key's lock in a transaction that then dies, as it does when the process is killed."""

    with held_key(database, KeyScope("local", "POST", "/api/v2/runs", "4e6d")):
        (await post(api)).problem(409, "idempotency_in_progress")
    assert (await post(api)).status == 201


async def test_a_key_whose_lock_nobody_gives_back_is_no_request_in_progress(api: Api, database: str) -> None:
    with held_key(database, KeyScope("local", "POST", "/api/v2/runs", "4e6d")):
        until = time.monotonic() + 10
        while (response := await post(api)).status == 409 and time.monotonic() < until:
            await asyncio.sleep(0.2)
        problem = response.problem(503, "database_unavailable")
        assert problem["detail"] == "a lock on this Idempotency-Key holds this up; try again in a moment"
        assert int(response.headers["Retry-After"]) > 0
    assert (await post(api)).status == 201


async def test_a_key_is_stored_for_a_day(api: Api) -> None:
    await post(api)
    with transaction():
        execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    assert "Idempotency-Replayed" in (await post(api)).headers
    with transaction():
        execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute'")
    assert "Idempotency-Replayed" not in (await post(api)).headers
    assert written()["runs"] == 2


async def test_keys_of_one_caller_are_not_those_of_another(serving: Serving, database: str) -> None:
    async with serving() as local, serving(MANAGED, require_token=True) as managed:
        assert (await post(local)).status == 201
        response = await post(managed, Authorization=f"Bearer {TOKEN}")
        assert "Idempotency-Replayed" not in response.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
async def test_a_malformed_key_is_refused(refusing: Api, key: str) -> None:
    problem = (await post(refusing, key=key)).problem(422, "invalid_header")
    assert [each["header"] for each in problem["errors"]] == ["Idempotency-Key"]


async def test_without_a_key_nothing_is_stored(api: Api) -> None:
    await api.create_run()
    assert read("SELECT 1 AS found FROM idempotency_keys") == []
