"""GET /workflows: what can be run, and which of its stages wait for a person."""

from __future__ import annotations

import pytest

from tests.api.client import Api


async def test_every_workflow_is_listed_by_name(refusing: Api) -> None:
    body = (await refusing.get("/workflows")).json()
    names = [workflow["name"] for workflow in body["items"]]
    assert names == sorted(names)
    assert {"foundation", "plan_90d", "content_calendar", "landing_page", "email_sequence", "smoke"} <= set(names)
    assert (body["next_cursor"], body["problems"]) == (None, [])


async def test_a_workflow_says_which_stages_need_approval(refusing: Api) -> None:
    body = (await refusing.get("/workflows/plan_90d")).json()
    assert set(body) == {"name", "title", "description", "stages"}
    assert [(stage["key"], stage["requires_approval"]) for stage in body["stages"]] == [
        ("research", False),
        ("strategy", True),
        ("plan", False),
    ]
    assert set(body["stages"][0]) == {"key", "title", "requires_approval", "needs_model"}


async def test_a_workflow_is_the_same_in_the_listing_and_alone(refusing: Api) -> None:
    for workflow in (await refusing.get("/workflows")).json()["items"]:
        assert (await refusing.get(f"/workflows/{workflow['name']}")).json() == workflow


async def test_each_workflow_can_be_run(api: Api) -> None:
    for workflow in (await api.get("/workflows")).json()["items"]:
        run = await api.create_run(workflow=workflow["name"])
        assert [stage["key"] for stage in run["stages"]] == [stage["key"] for stage in workflow["stages"]]


@pytest.mark.parametrize("name", ["no_such", "Plan_90d", "%00", "..", "plan_90d%20", "%ED%A0%80", "%F0%9F%A5%90"])
async def test_an_unknown_workflow_is_not_found(refusing: Api, name: str) -> None:
    (await refusing.get(f"/workflows/{name}")).problem(404, "not_found")


async def test_a_workflow_takes_no_parameters(refusing: Api) -> None:
    assert (await refusing.get("/workflows?limit=5")).wrong(422, "invalid_parameter") == {"limit"}
