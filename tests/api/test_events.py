"""GET /runs/{id}/events: the timeline as JSON, read by position."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tests.api.client import Api
from vm_webapp.access.actor import Actor
from vm_webapp.runs import lifecycle


async def test_the_timeline_begins_with_the_creation(api: Api) -> None:
    run = await api.create_run()
    response = await api.get(f"/runs/{run['id']}/events")
    created, queued = response.json()["items"]
    assert response.json()["next_cursor"] is None
    assert (created.pop("id") < queued.pop("id")) is True
    assert created.pop("created_at") <= queued.pop("created_at")
    same = {"run_id": run["id"], "actor": "local"}
    assert created == same | {"stage": None, "type": "run.created", "data": {"workflow": "content_calendar"}}
    assert queued == same | {"stage": "topic_map", "type": "stage.queued", "data": {}}


async def test_the_tokens_holder_acts_as_admin(managed: Api) -> None:
    managed.session.headers["Authorization"] = "Bearer a-token-of-the-tests"
    run = await managed.create_run()
    events = (await managed.get(f"/runs/{run['id']}/events")).json()["items"]
    assert {event["actor"] for event in events} == {"admin"}


async def test_pages_hold_every_event_exactly_once(api: Api) -> None:
    run = await api.create_run()
    await api.create_run()
    lifecycle.cancel_run_if_open(UUID(run["id"]), actor=Actor("tests"))
    path = f"/runs/{run['id']}/events"
    whole = (await api.get(path)).json()["items"]
    assert [event["type"] for event in whole] == ["run.created", "stage.queued", "run.canceled"]
    first = (await api.get(f"{path}?limit=2")).json()
    assert first["next_cursor"] == str(whole[1]["id"])
    second = (await api.get(f"{path}?limit=2&after={first['next_cursor']}")).json()
    assert first["items"] + second["items"] == whole
    assert second["next_cursor"] is None


async def test_a_page_that_is_exactly_full_is_known_to_be_the_last(api: Api) -> None:
    run = await api.create_run()
    assert (await api.get(f"/runs/{run['id']}/events?limit=2")).json()["next_cursor"] is None


async def test_after_the_last_event_there_is_an_empty_page(api: Api) -> None:
    run = await api.create_run()
    last = (await api.get(f"/runs/{run['id']}/events")).json()["items"][-1]["id"]
    response = await api.get(f"/runs/{run['id']}/events?after={last}")
    assert (response.status, response.json()) == (200, {"items": [], "next_cursor": None})


@pytest.mark.parametrize("position", ["another run's event", 2**63 - 1])
async def test_after_an_event_that_the_run_does_not_have_the_page_begins_with_the_first(
    api: Api, position: object
) -> None:
    run, other = await api.create_run(), await api.create_run()
    if isinstance(position, str):
        position = (await api.get(f"/runs/{other['id']}/events")).json()["items"][0]["id"]
    whole = (await api.get(f"/runs/{run['id']}/events")).json()
    assert (await api.get(f"/runs/{run['id']}/events?after={position}")).json() == whole


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("after=-1", "after"),
        (f"after={2**63}", "after"),
        ("after=x", "after"),
        ("after=1.0", "after"),
        ("after=1&after=1", "after"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=5", "cursor"),
    ],
)
async def test_a_wrong_parameter_is_named(refusing: Api, query: str, parameter: str) -> None:
    response = await refusing.get(f"/runs/{uuid4()}/events?{query}")
    assert response.wrong(422, "invalid_parameter") == {parameter}
