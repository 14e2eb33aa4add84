"""Runs through the client: create, read, wait, review and cancel on a real API."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from aiohttp import web

from tests.api.client import Api
from tests.api.conftest import TOKEN
from tests.client.work import fail_next, write_next
from tests.fakes.stranger import responding
from vm_webapp.client import ApiClient, open_api, resources, runs
from vm_webapp.client.errors import AccessDenied, Refused
from vm_webapp.client.shapes import ArtifactSummary, Run


async def create(client: ApiClient, workflow: str = "content_calendar", **options: Any) -> Run:
    """Create a run."""
    return await client.runs.create(workflow=workflow, request="a plan", **options)


async def waiting(client: ApiClient, draft: str = "# A draft") -> tuple[Run, str, ArtifactSummary]:
    """Create a run whose first draft waits; return it with the stage's key and the draft."""
    run_id = (await create(client, "landing_page"))["id"]
    await write_next(run_id, draft)
    run = await client.runs.read(run_id)
    stage = run["stages"][0]
    assert (stage["status"], stage["artifact"] is not None) == ("waiting_approval", True)
    assert stage["artifact"] is not None
    return run, stage["key"], stage["artifact"]


def digest(text: str) -> str:
    """Return the digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_run_is_created_read_and_canceled(client: ApiClient) -> None:
    run = await create(client)
    assert (run["status"], run["workflow"], run["error"]) == ("queued", "content_calendar", None)
    assert (await client.runs.read(run["id"]))["id"] == run["id"]
    assert (await client.runs.cancel(run["id"]))["status"] == "canceled"


async def test_a_run_may_be_created_without_reviews(client: ApiClient) -> None:
    run_id = (await create(client, "landing_page", auto_approve=True))["id"]
    await write_next(run_id)
    assert (await client.runs.read(run_id))["stages"][0]["status"] == "completed"


async def test_a_run_is_created_for_a_brand_and_a_project_that_are_found_by_name(client: ApiClient, api: Api) -> None:
    brand = (await api.post("/brands", {"name": "Molar"})).json()
    project = (await api.post("/projects", {"name": "Spring", "brand_id": brand["id"]})).json()
    (found,), (planned,) = await client.brands.named("Molar"), await client.projects.named("Spring")
    run = await create(client, brand_id=found["id"], project_id=planned["id"])
    stored = (await api.get(f"/runs/{run['id']}")).json()
    assert (stored["brand_id"], stored["project_id"]) == (brand["id"], project["id"])


async def test_names_are_compared_to_the_letter_on_every_page_and_archived_ones_are_left_out(
    client: ApiClient, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "AT_A_TIME", 1)
    for name in ("Molar", "molar", "Molar Ltd", "Molar", "Molar"):
        brand = (await api.post("/brands", {"name": name})).json()
    await api.post(f"/brands/{brand['id']}/archive", {})
    assert len(await client.brands.named("Molar")) == 2
    assert await client.brands.named("MOLAR") == []
    assert (await client.brands.read(brand["id"]))["name"] == "Molar"


async def test_a_failed_run_is_retried_from_a_stage(client: ApiClient) -> None:
    run_id = (await create(client))["id"]
    await write_next(run_id)
    with pytest.raises(Refused) as refused:
        await client.runs.retry(run_id)
    assert refused.value.code == "conflict"
    await fail_next(run_id)
    retried = await client.runs.retry(run_id, from_stage="topic_map")
    assert (retried["status"], retried["error"]) == ("queued", None)
    assert [stage["status"] for stage in retried["stages"]] == ["queued", "pending"]


async def test_a_call_that_waits_may_take_longer_than_the_usual_limit(client: ApiClient, api: Api) -> None:
    run_id = (await create(client))["id"]
    async with open_api(api.base_url, trust_env=False, timeout_seconds=0.5) as hasty:
        assert (await hasty.runs.read(run_id, wait_seconds=1))["status"] == "queued"
    waiting_for_it = asyncio.create_task(client.runs.read(run_id, wait_seconds=20))
    await client.runs.cancel(run_id)
    async with asyncio.timeout(10):
        assert (await waiting_for_it)["status"] == "canceled"


async def test_a_draft_is_accepted_as_it_is(client: ApiClient) -> None:
    run, key, draft = await waiting(client)
    approved = await client.runs.approve(run["id"], key, artifact_sha256=draft["sha256"])
    assert [stage["status"] for stage in approved["stages"]] == ["completed", "queued", "pending"]
    assert await client.runs.artifact(run["id"], key) == b"# A draft"


async def test_a_draft_is_accepted_as_edited(client: ApiClient) -> None:
    run, key, draft = await waiting(client, "# Ä draft")
    await client.runs.approve(run["id"], key, artifact_sha256=draft["sha256"], content="# Édited")
    assert await client.runs.artifact(run["id"], key) == "# Édited".encode()
    assert await client.runs.artifact(run["id"], key, version=1) == "# Ä draft".encode()


async def test_a_draft_is_sent_back(client: ApiClient) -> None:
    run, key, draft = await waiting(client)
    sent_back = await client.runs.request_changes(
        run["id"], key, artifact_sha256=draft["sha256"], feedback="warmer, please"
    )
    assert sent_back["stages"][0]["status"] == "queued"
    types = [event["type"] async for event in client.runs.timeline(run["id"])]
    assert types.count("changes.requested") == 1


async def test_a_decision_about_another_draft_is_refused(client: ApiClient) -> None:
    run, key, _ = await waiting(client)
    with pytest.raises(Refused) as refused:
        await client.runs.approve(run["id"], key, artifact_sha256=digest("# Another"))
    assert refused.value.code == "draft_changed"
    assert refused.value.response is not None
    assert (refused.value.response.status, str(refused.value)) == (409, refused.value.response.detail)


@pytest.mark.parametrize("name", ["nonsense", "../queue", "a b", "x?wait=1", "é/../..", "..", ""])
async def test_an_id_cannot_lead_to_another_path(client: ApiClient, name: str) -> None:
    with pytest.raises(Refused) as refused:
        await client.runs.read(name)
    assert refused.value.code == "not_found"


async def test_a_timeline_is_read_page_after_page(client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = (await create(client))["id"]
    await write_next(run_id)
    whole = [event async for event in client.runs.timeline(run_id)]
    monkeypatch.setattr(runs, "EVENTS_AT_A_TIME", 2)
    assert [event async for event in client.runs.timeline(run_id)] == whole
    assert len(whole) > 4
    assert [event["id"] for event in whole] == sorted(event["id"] for event in whole)
    assert (whole[0]["type"], whole[0]["run_id"]) == ("run.created", run_id)


async def test_a_listing_that_repeats_its_cursor_is_not_read_for_ever() -> None:
    page = {"items": [{"id": 1}], "next_cursor": "1"}
    async with (
        responding(lambda request: web.json_response(page)) as address,
        open_api(address, trust_env=False) as client,
    ):
        assert len([event async for event in client.runs.timeline("r1")]) == 2


async def test_a_token_grants_access(managed: Api) -> None:
    async with open_api(managed.base_url, trust_env=False) as client:
        with pytest.raises(AccessDenied, match="Authorization: Bearer"):
            await create(client)
        client.use_token("wrong")
        with pytest.raises(AccessDenied):
            await create(client)
        client.use_token(TOKEN)
        assert (await client.workflows())["items"]
    async with open_api(managed.base_url, TOKEN, trust_env=False) as client:
        assert (await create(client))["status"] == "queued"
