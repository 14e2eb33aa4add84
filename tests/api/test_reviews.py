"""Drafts that wait for a person: approve, edit, request changes; bound to the draft that was read."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.client import Api, written
from tests.support.forms import only_in_full
from tests.support.runs import read
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import Claimant

WORKER = Claimant(uuid4(), "kimi")


def digest(text: str) -> str:
    """Return the digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_draft(run_id: str, text: str, **details: Any) -> None:
    """Let a worker write the draft of the run's due stage."""
    (stage_id,) = queries_due(run_id)
    claim = lifecycle.claim_stage(stage_id, WORKER, token=uuid4())
    assert claim is not None
    assert (
        lifecycle.finish_stage_if_held(claim, Completion(text, "kimi", **details), WORKER, next_token=None) is not None
    )


def queries_due(run_id: str) -> list[UUID]:
    """Return the ids of the run's queued stages."""

    return [row["id"] for row in read("SELECT id FROM stages WHERE run_id = %(id)s AND status = 'queued'", id=run_id)]


async def waiting_run(api: Api, text: str = "# A draft", **options: Any) -> str:
    """Create a landing page run whose first draft waits."""
    created = await api.post("/runs", {"workflow": "landing_page", "request": "a page", **options})
    run_id: str = created.json()["id"]
    await asyncio.to_thread(write_draft, run_id, text)
    return run_id


async def test_an_approval_moves_the_run_on(api: Api) -> None:
    run_id = await waiting_run(api)
    response = await api.post(
        f"/runs/{run_id}/stages/message/approve", {"artifact_sha256": digest("# A draft"), "note": "well done"}
    )
    assert response.status == 200
    run = response.json()
    assert (run["status"], [stage["status"] for stage in run["stages"]]) == (
        "running",
        ["completed", "queued", "pending"],
    )
    events = (await api.get(f"/runs/{run_id}/events")).json()["items"]
    granted = next(event for event in events if event["type"] == "approval.granted")
    assert (granted["actor"], granted["data"]["note"], granted["data"]["edited"]) == ("local", "well done", False)


async def test_a_draft_that_breaks_off_says_so_where_it_is_judged(api: Api) -> None:
    run_id = (await api.create_run(workflow="landing_page"))["id"]
    await asyncio.to_thread(write_draft, run_id, "# A", truncated=True, note="the prompt was probably cut")
    (approval,) = (await api.get("/approvals")).json()["items"]
    artifact = (await api.get(f"/runs/{run_id}")).json()["stages"][0]["artifact"]
    for told in (approval, artifact):
        assert (told["truncated"], told["note"]) == (True, "the prompt was probably cut")
    body = {"artifact_sha256": digest("# A"), "content": "# A whole page"}
    run = (await api.post(f"/runs/{run_id}/stages/message/approve", body)).json()
    assert (run["stages"][0]["artifact"]["truncated"], run["stages"][0]["artifact"]["note"]) == (False, None)


async def test_an_edit_is_what_later_stages_read(api: Api) -> None:
    run_id = await waiting_run(api)
    body = {"artifact_sha256": digest("# A draft"), "content": "# Edited"}
    assert (await api.post(f"/runs/{run_id}/stages/message/approve", body)).status == 200
    assert queries.newest_artifacts(UUID(run_id))["message"].content == "# Edited"
    listed = (await api.get(f"/runs/{run_id}/artifacts")).json()["items"]
    assert [(each["version"], each["provider"]) for each in listed] == [(1, "kimi"), (2, "human")]
    assert (await api.get(f"/runs/{run_id}/artifacts/message?version=1")).body == b"# A draft"


async def test_changes_requested_go_into_the_next_attempt(api: Api) -> None:
    run_id = await waiting_run(api)
    body = {"artifact_sha256": digest("# A draft"), "feedback": "shorter, please"}
    response = await api.post(f"/runs/{run_id}/stages/message/request-changes", body)
    assert response.json()["stages"][0]["status"] == "queued"
    (stage_id,) = queries_due(run_id)
    claim = lifecycle.claim_stage(stage_id, WORKER, token=uuid4())
    assert claim is not None
    assert (claim.feedback, claim.attempt) == ("shorter, please", 2)


@pytest.mark.parametrize(("action", "further"), [("approve", {}), ("request-changes", {"feedback": "shorter"})])
async def test_a_stale_digest_is_refused_with_the_current_one(api: Api, action: str, further: dict[str, str]) -> None:
    run_id = await waiting_run(api)
    before = written()
    body = {"artifact_sha256": digest("another draft"), **further}
    refused = (await api.post(f"/runs/{run_id}/stages/message/{action}", body)).problem(409, "draft_changed")
    assert refused["current_sha256"] == digest("# A draft")
    assert written() == before


@pytest.mark.parametrize(("action", "further"), [("approve", {}), ("request-changes", {"feedback": "shorter"})])
async def test_a_stage_that_does_not_wait_cannot_be_reviewed(api: Api, action: str, further: dict[str, str]) -> None:
    run_id = await waiting_run(api)
    before = written()
    body = {"artifact_sha256": digest("# A draft"), **further}
    (await api.post(f"/runs/{run_id}/stages/copy/{action}", body)).problem(409, "conflict")
    (await api.post(f"/runs/{run_id}/stages/nothing/{action}", body)).problem(404, "not_found")
    (await api.post(f"/runs/{uuid4()}/stages/message/{action}", body)).problem(404, "not_found")
    assert written() == before


@pytest.mark.parametrize(
    ("action", "body", "wrong"),
    [
        ("approve", {}, {"/artifact_sha256"}),
        ("approve", {"artifact_sha256": "x"}, {"/artifact_sha256"}),
        ("approve", {"artifact_sha256": "0" * 64, "content": " \n"}, {"/content"}),
        ("approve", {"artifact_sha256": "0" * 64, "content": "a\x00b"}, {"/content"}),
        ("approve", {"artifact_sha256": "0" * 64, "verdict": "good"}, {"/verdict"}),
        ("request-changes", {"artifact_sha256": "0" * 64}, {"/feedback"}),
        ("request-changes", {"artifact_sha256": "0" * 64, "feedback": "  "}, {"/feedback"}),
        ("request-changes", {"artifact_sha256": "0" * 64, "feedback": "x" * 20_001}, {"/feedback"}),
    ],
)
async def test_a_wrong_decision_names_what_is_wrong(
    refusing: Api, action: str, body: dict[str, Any], wrong: set[str]
) -> None:
    response = await refusing.post(f"/runs/{uuid4()}/stages/message/{action}", body)
    assert response.wrong(422, "invalid_input") == wrong


@pytest.mark.parametrize("count", [100, only_in_full(1000)])
async def test_of_many_decisions_at_once_one_has_effect(api: Api, count: int) -> None:
    run_id = await waiting_run(api)
    approve = {"artifact_sha256": digest("# A draft")}
    change = {**approve, "feedback": "shorter"}

    async def decide(number: int) -> int:
        action, body = ("approve", approve) if number % 2 else ("request-changes", change)
        while True:
            response = await api.post(f"/runs/{run_id}/stages/message/{action}", body)
            if response.status != 503:  # the waiting line is bounded: a refused request is sent again
                return response.status

    statuses = [await status for status in asyncio.as_completed([decide(number) for number in range(count)])]
    assert statuses.count(200) == 1
    assert set(statuses) == {200, 409}
    types = [event.type for event in queries.list_events(UUID(run_id), after=0, limit=200)]
    assert types.count("approval.granted") + types.count("changes.requested") == 1


async def test_everything_that_waits_is_listed_oldest_first(api: Api) -> None:
    brand = (await api.post("/brands", {"name": "Crumb & Co"})).json()
    first = await waiting_run(api, brand_id=brand["id"])
    second = await waiting_run(api)
    await api.post("/runs", {"workflow": "landing_page", "request": "not written yet"})
    page = (await api.get("/approvals?limit=1")).json()
    (oldest,) = page["items"]
    assert (oldest["run_id"], oldest["stage"], oldest["brand"]) == (first, "message", "Crumb & Co")
    assert (oldest["sha256"], oldest["version"]) == (digest("# A draft"), 1)
    assert oldest["age_seconds"] >= 0
    rest = (await api.get(f"/approvals?cursor={page['next_cursor']}")).json()
    assert [each["run_id"] for each in rest["items"]] == [second]
    assert rest["next_cursor"] is None
