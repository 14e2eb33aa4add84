"""POST /runs of many clients at once: few statements, and for each client what it would get alone."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.client import NEW_RUN, Api, Response, written
from tests.api.idempotency_locks import held_key
from tests.support.fleet import beat
from tests.support.runs import read
from tests.support.statements import Traffic
from vm_webapp.idempotency import KeyScope

MANY = 60


async def post(api: Api, number: int, *, key: str | None = None) -> Response:
    """Ask for a run, in a request with an id of its own."""
    headers = {"X-Request-ID": f"request-{number}"} | ({"Idempotency-Key": key} if key else {})
    return await api.post("/runs", NEW_RUN | {"request": f"run {number}"}, headers=headers)


@pytest.mark.parametrize("keyed", [False, True])
async def test_many_are_created_by_few_statements(watched: tuple[Api, Traffic], keyed: bool) -> None:
    api, traffic = watched
    beat()
    assert (await post(api, MANY, key="first" if keyed else None)).status == 201
    traffic.taken()
    responses = await asyncio.gather(*(post(api, n, key=f"key {n}" if keyed else None) for n in range(MANY)))
    assert len(traffic.taken()) < MANY / 2
    assert {response.status for response in responses} == {201}
    for number, response in enumerate(responses):
        run = response.json()
        assert run["request"] == f"run {number}"
        assert response.headers["Location"] == f"/api/v2/runs/{run['id']}"
        assert (await api.get(f"/runs/{run['id']}")).json()["request"] == run["request"]
    assert written()["runs"] == MANY + 1
    audited = read("SELECT data, request_id FROM audit_entries WHERE request_id LIKE 'request-%%' ORDER BY id")
    assert len(audited) == MANY + 1
    made = read("SELECT request, request_id FROM runs")
    assert {each["request"].removeprefix("run ") for each in made} == {
        each["request_id"].removeprefix("request-") for each in made
    }


async def test_each_gets_its_own_answer(api: Api, database: str) -> None:
    """Among many at once are a repetition, another body, a key in use, one key twice, and a body that is wrong."""
    earlier = await post(api, 1, key="a")
    with held_key(database, KeyScope("local", "POST", "/api/v2/runs", "held")):
        again, other, held, twice, twice_again, wrong, *new = await asyncio.gather(
            post(api, 1, key="a"),
            post(api, 2, key="a"),
            post(api, 3, key="held"),
            post(api, 4, key="twice"),
            post(api, 4, key="twice"),
            api.post("/runs", NEW_RUN | {"request": ""}, headers={"Idempotency-Key": "wrong"}),
            *(post(api, number, key=f"new {number}") for number in range(10, 20)),
            *(post(api, number) for number in range(20, 30)),
        )
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (201, earlier.body, "true")
    other.problem(422, "idempotency_key_reused")
    held.problem(409, "idempotency_in_progress")
    wrong.problem(422, "invalid_input")
    if 409 in {twice.status, twice_again.status}:
        (refused,) = (each for each in (twice, twice_again) if each.status == 409)
        refused.problem(409, "idempotency_in_progress")
    else:
        assert twice.body == twice_again.body
    assert {response.status for response in new} == {201}
    assert len({response.json()["id"] for response in new}) == 20
    assert written()["runs"] == 1 + 1 + 20
    assert (await post(api, 4, key="twice")).headers["Idempotency-Replayed"] == "true"


async def test_a_run_with_a_brand_is_created_by_itself(api: Api) -> None:
    brand = (await api.post("/brands", {"name": "One"})).json()
    responses = await asyncio.gather(
        *(api.post("/runs", NEW_RUN | ({"brand_id": brand["id"]} if n % 2 else {})) for n in range(10))
    )
    assert [response.json()["brand_id"] for response in responses] == [None, brand["id"]] * 5
