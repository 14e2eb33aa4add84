"""Brands and projects: create, list, read, change, archive; and what a run keeps of them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.api.client import Api, Response, written
from tests.support.snapshots import kept_by

BRAND = {
    "name": "Crumb & Co",
    "voice": "warm, brief",
    "audience": "people who order bread before seven",
    "products": ["sourdough", "rye"],
    "facts": ["delivers by bicycle"],
    "forbidden_words": ["artisanal"],
    "max_running": 3,
}
PROJECT = {
    "name": "Winter",
    "objective": "200 subscriptions",
    "channels": ["newsletter"],
    "starts_on": "2026-12-01",
    "ends_on": "2027-02-28",
}
KINDS = [("brands", BRAND), ("projects", PROJECT)]


async def change(api: Api, path: str, body: Any, if_match: str | None) -> Response:
    """PATCH a thing."""
    headers = {"If-Match": if_match} if if_match is not None else {}
    return await api.request("PATCH", path, json=body, headers=headers)


@pytest.mark.parametrize(("kind", "fields"), KINDS)
async def test_what_is_created_is_read_back(api: Api, kind: str, fields: dict[str, Any]) -> None:
    created = await api.post(f"/{kind}", fields)
    thing = created.json()
    assert (created.status, created.headers["ETag"]) == (201, '"1"')
    assert created.headers["Location"] == f"/api/v2/{kind}/{thing['id']}"
    assert thing.items() >= fields.items()
    again = await api.get(f"/{kind}/{thing['id']}")
    assert (again.json(), again.headers["ETag"]) == (thing, '"1"')


@pytest.mark.parametrize(("kind", "fields"), KINDS)
async def test_a_change_touches_only_what_it_names(api: Api, kind: str, fields: dict[str, Any]) -> None:
    thing = (await api.post(f"/{kind}", fields)).json()
    response = await change(api, f"/{kind}/{thing['id']}", {"name": "Another name"}, '"1"')
    changed = response.json()
    assert (response.status, response.headers["ETag"], changed["version"]) == (200, '"2"', 2)
    assert changed.items() >= (fields | {"name": "Another name"}).items()
    assert changed["updated_at"] > thing["updated_at"]


@pytest.mark.parametrize(("kind", "fields"), KINDS)
async def test_a_change_needs_the_version_it_was_made_from(api: Api, kind: str, fields: dict[str, Any]) -> None:
    thing = (await api.post(f"/{kind}", fields)).json()
    path = f"/{kind}/{thing['id']}"
    (await change(api, path, {"name": "x"}, None)).problem(428, "precondition_required")
    for stale in ('"7"', "nonsense", "*"):
        (await change(api, path, {"name": "x"}, stale)).problem(412, "changed_meanwhile")
    assert (await api.get(path)).json() == thing


async def test_of_many_changes_of_the_same_version_one_takes_effect(api: Api) -> None:
    thing = (await api.post("/brands", BRAND)).json()
    path = f"/brands/{thing['id']}"
    responses = await asyncio.gather(*(change(api, path, {"name": f"name {n}"}, '"1"') for n in range(30)))
    assert sorted({response.status for response in responses}) == [200, 412]
    assert [response.status for response in responses].count(200) == 1
    assert (await api.get(path)).json()["version"] == 2


@pytest.mark.parametrize(("kind", "fields"), KINDS)
async def test_an_archived_one_stays_readable_and_unchanged(api: Api, kind: str, fields: dict[str, Any]) -> None:
    thing = (await api.post(f"/{kind}", fields)).json()
    path = f"/{kind}/{thing['id']}"
    archived = (await api.request("POST", f"{path}/archive")).json()
    assert archived["archived_at"] is not None
    assert (await api.request("POST", f"{path}/archive")).json() == archived
    (await change(api, path, {"name": "x"}, '"2"')).problem(409, "conflict")
    assert (await api.get(f"/{kind}")).json()["items"] == []
    assert [each["id"] for each in (await api.get(f"/{kind}?archived=true")).json()["items"]] == [thing["id"]]


@pytest.mark.parametrize(("kind", "field"), [("brands", "brand_id"), ("projects", "project_id")])
async def test_an_archived_one_takes_no_new_runs(api: Api, kind: str, field: str) -> None:
    thing = (await api.post(f"/{kind}", {"name": "x"})).json()
    await api.request("POST", f"/{kind}/{thing['id']}/archive")
    before = written()
    for id in (thing["id"], str(uuid4())):
        refused = await api.post("/runs", {"workflow": "smoke", "request": "x", field: id})
        assert refused.wrong(422, "invalid_input") == {f"/{field}"}
    assert written() == before


async def test_pages_walk_through_all_of_them_once(api: Api) -> None:
    names = [(await api.post("/brands", {"name": f"brand {n}"})).json()["name"] for n in range(5)]
    seen: list[str] = []
    path = "/brands?limit=2"
    while True:
        page = (await api.get(path)).json()
        seen += [brand["name"] for brand in page["items"]]
        if page["next_cursor"] is None:
            break
        path = f"/brands?limit=2&cursor={page['next_cursor']}"
    assert seen == names[::-1]


async def test_a_run_keeps_the_brand_and_project_that_it_was_created_with(api: Api) -> None:
    brand = (await api.post("/brands", BRAND)).json()
    project = (await api.post("/projects", PROJECT | {"brand_id": brand["id"]})).json()
    run = await api.create_run(brand_id=brand["id"], project_id=project["id"])
    await change(api, f"/brands/{brand['id']}", {"voice": "cold, long"}, '"1"')
    kept = kept_by(run["id"])
    assert kept["brand"]["voice"] == "warm, brief"
    assert kept["brand"].keys() == BRAND.keys() - {"max_running"}  # a limit, and no content for prompts
    assert kept["project"]["starts_on"] == "2026-12-01"


@pytest.mark.parametrize(
    ("path", "body", "wrong"),
    [
        ("/brands", {}, {"/name"}),
        ("/brands", {"name": " "}, {"/name"}),
        ("/brands", {"name": "x", "products": "bread"}, {"/products"}),
        ("/brands", {"name": "x", "products": ["", "rye"]}, {"/products/0"}),
        ("/brands", {"name": "x", "facts": ["a\x00"]}, {"/facts/0"}),
        ("/brands", {"name": "x", "colour": "blue"}, {"/colour"}),
        *(
            ("/brands", {"name": "x", "max_running": wrong}, {"/max_running"})
            for wrong in (0, -1, 1.5, "2", True, 10_001)
        ),
        ("/projects", {"name": "x", "starts_on": "soon"}, {"/starts_on"}),
        ("/projects", {"name": "x", "starts_on": "2026-12-02", "ends_on": "2026-12-01"}, {"/ends_on"}),
        ("/projects", {"name": "x", "brand_id": str(uuid4())}, {"/brand_id"}),
        ("/projects", {"name": "x", "channels": ["c"] * 101}, {"/channels"}),
    ],
)
async def test_every_wrong_field_is_named(refusing: Api, path: str, body: dict[str, Any], wrong: set[str]) -> None:
    assert (await refusing.post(path, body)).wrong(422, "invalid_input") == wrong


async def test_a_project_cannot_be_changed_to_end_before_it_starts(api: Api) -> None:
    project = (await api.post("/projects", PROJECT)).json()
    path = f"/projects/{project['id']}"
    wrong = (await change(api, path, {"ends_on": "2026-11-01"}, '"1"')).wrong(422, "invalid_input")
    assert wrong == {"/ends_on"}
    emptied = (await change(api, path, {"starts_on": None, "ends_on": None}, '"1"')).json()
    assert (emptied["starts_on"], emptied["ends_on"]) == (None, None)


async def test_a_brand_has_no_limit_until_it_gets_one_and_after_it_is_cleared(api: Api) -> None:
    brand = (await api.post("/brands", {"name": "x"})).json()
    path = f"/brands/{brand['id']}"
    limits = [brand["max_running"]]
    for version, limit in enumerate((2, None), start=1):
        limits.append((await change(api, path, {"max_running": limit}, f'"{version}"')).json()["max_running"])
    assert limits == [None, 2, None]


@pytest.mark.parametrize("kind", ["brands", "projects"])
async def test_one_that_does_not_exist_is_not_found(refusing: Api, kind: str) -> None:
    (await refusing.get(f"/{kind}/{uuid4()}")).problem(404, "not_found")
    (await refusing.request("POST", f"/{kind}/{uuid4()}/archive")).problem(404, "not_found")
    (await change(refusing, f"/{kind}/{uuid4()}", {"name": "x"}, '"1"')).problem(404, "not_found")
