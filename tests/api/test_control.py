"""Control of a run: cancel, retry, fork, and the archive."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from uuid import UUID, uuid4

import pytest

from tests.api.client import Api, written
from tests.support.work import WORKER, claim_next, finish_next
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.states import Failure

BROKEN = Failure("llm_bad_request", "HTTP 400", permanent=True)


async def failed_run(api: Api) -> str:
    """Return a calendar run whose second stage failed."""
    run_id: str = (await api.create_run())["id"]

    def work() -> None:
        finish_next(run_id, "# Topics")
        lifecycle.fail_attempt_if_held(claim_next(run_id), BROKEN, jitter=0)

    await asyncio.to_thread(work)
    return run_id


async def test_a_canceled_run_stays_canceled(api: Api) -> None:
    run_id = (await api.create_run())["id"]
    held = await asyncio.to_thread(claim_next, run_id)
    first = await api.post(f"/runs/{run_id}/cancel", {})
    assert (first.status, first.json()["status"]) == (200, "canceled")
    assert not await asyncio.to_thread(
        lifecycle.finish_stage_if_held, held, Completion("late", "kimi"), WORKER, next_token=None
    )
    before = written()
    again = await api.request("POST", f"/runs/{run_id}/cancel")
    assert (again.status, again.json()["status"]) == (200, "canceled")
    assert written() == before


async def test_a_completed_run_cannot_be_canceled(api: Api) -> None:
    run_id = (await api.create_run(workflow="smoke"))["id"]
    await asyncio.to_thread(finish_next, run_id, "it works")
    (await api.post(f"/runs/{run_id}/cancel", {})).problem(409, "conflict")


async def test_a_retry_continues_at_the_failed_stage(api: Api) -> None:
    run_id = await failed_run(api)
    response = await api.post(f"/runs/{run_id}/retry", {})
    run = response.json()
    assert (response.status, run["status"], run["error"]) == (200, "queued", None)
    assert [stage["status"] for stage in run["stages"]] == ["completed", "queued"]


async def test_a_retry_from_an_earlier_stage_keeps_old_versions(api: Api) -> None:
    run_id = await failed_run(api)
    run = (await api.post(f"/runs/{run_id}/retry", {"from_stage": "topic_map"})).json()
    assert [stage["status"] for stage in run["stages"]] == ["queued", "pending"]
    await asyncio.to_thread(finish_next, run_id, "# New topics")
    assert (await api.get(f"/runs/{run_id}/artifacts/topic_map")).body == b"# New topics"
    assert (await api.get(f"/runs/{run_id}/artifacts/topic_map?version=1")).body == b"# Topics"


async def test_only_failed_runs_are_retried(api: Api) -> None:
    run_id = (await api.create_run())["id"]
    failed = await failed_run(api)
    before = written()
    (await api.post(f"/runs/{run_id}/retry", {})).problem(409, "conflict")
    (await api.post(f"/runs/{uuid4()}/retry", {})).problem(404, "not_found")
    (await api.post(f"/runs/{failed}/retry", {"from_stage": "nothing"})).problem(404, "not_found")
    assert (await api.post(f"/runs/{failed}/retry", {"from": "topic_map"})).wrong(422, "invalid_input") == {"/from"}
    assert written() == before


async def test_a_fork_copies_the_finished_stages(api: Api) -> None:
    parent = await failed_run(api)
    response = await api.post(f"/runs/{parent}/fork", {"from_stage": "calendar", "request": "for a tea shop"})
    run = response.json()
    assert (response.status, response.headers["Location"]) == (201, f"/api/v2/runs/{run['id']}")
    assert (run["parent_run_id"], run["request"], run["status"]) == (parent, "for a tea shop", "queued")
    assert [stage["status"] for stage in run["stages"]] == ["completed", "queued"]
    assert run["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "uncounted": False}
    assert (await api.get(f"/runs/{run['id']}/artifacts/topic_map")).body == b"# Topics"
    await asyncio.to_thread(finish_next, run["id"], "# Calendar")
    assert (await api.get(f"/runs/{run['id']}")).json()["status"] == "completed"
    assert (await api.get(f"/runs/{parent}")).json()["status"] == "failed"


async def test_a_fork_from_the_first_stage_starts_from_scratch(api: Api) -> None:
    parent = await failed_run(api)
    run = (await api.post(f"/runs/{parent}/fork", {"from_stage": "topic_map"})).json()
    assert [stage["status"] for stage in run["stages"]] == ["queued", "pending"]
    assert run["request"] == (await api.get(f"/runs/{parent}")).json()["request"]


@pytest.mark.parametrize("refresh", [None, False, True])
async def test_a_fork_takes_the_brand_as_it_is_now_if_asked_to(api: Api, refresh: bool | None) -> None:
    brand = (await api.post("/brands", {"name": "Korn", "voice": "warm"})).json()
    parent = (await api.create_run(brand_id=brand["id"]))["id"]
    await api.request("PATCH", f"/brands/{brand['id']}", json={"voice": "dry"}, headers={"If-Match": '"1"'})
    asked = {"from_stage": "topic_map"} | ({} if refresh is None else {"refresh_context": refresh})
    response = await api.post(f"/runs/{parent}/fork", asked)
    assert (response.status, response.json()["brand_id"]) == (201, brand["id"])
    held = await asyncio.to_thread(claim_next, response.json()["id"])
    assert held.snapshot["brand"]["voice"] == ("dry" if refresh else "warm")


async def test_a_fork_cannot_take_a_brand_that_is_archived_by_now(api: Api) -> None:
    brand = (await api.post("/brands", {"name": "Korn"})).json()["id"]
    parent = (await api.create_run(brand_id=brand))["id"]
    await api.post(f"/brands/{brand}/archive", {})
    before = written()
    refused = await api.post(f"/runs/{parent}/fork", {"from_stage": "topic_map", "refresh_context": True})
    assert refused.wrong(422, "invalid_input") == {"/refresh_context"}
    assert written() == before
    assert (await api.post(f"/runs/{parent}/fork", {"from_stage": "topic_map"})).status == 201


async def test_a_fork_needs_a_stage_that_exists_and_finished_ones_before_it(api: Api) -> None:
    fresh = (await api.create_run())["id"]
    before = written()
    wrong = (await api.post(f"/runs/{fresh}/fork", {"from_stage": "nothing"})).wrong(422, "invalid_input")
    assert wrong == {"/from_stage"}
    (await api.post(f"/runs/{fresh}/fork", {"from_stage": "calendar"})).problem(409, "conflict")
    (await api.post(f"/runs/{uuid4()}/fork", {"from_stage": "calendar"})).problem(404, "not_found")
    assert (await api.request("POST", f"/runs/{fresh}/fork")).status in (400, 415, 422)
    assert written() == before


async def test_the_archive_holds_every_version_the_timeline_and_an_index(api: Api) -> None:
    run_id = await failed_run(api)
    await api.post(f"/runs/{run_id}/retry", {"from_stage": "topic_map"})
    await asyncio.to_thread(finish_next, run_id, "# New “topics”")
    response = await api.get(f"/runs/{run_id}/archive")
    assert response.headers["Content-Type"] == "application/zip"
    assert f"run-{run_id}.zip" in response.headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(response.body)) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert names == {"README.md", "01-topic_map/v1.md", "01-topic_map/v2.md", "timeline.json"}
        assert archive.read("01-topic_map/v2.md").decode() == "# New “topics”"
        timeline = json.loads(archive.read("timeline.json"))
        index = archive.read("README.md").decode()
    assert [event["type"] for event in timeline] == [
        event.type for event in queries.list_events(UUID(run_id), after=0, limit=200)
    ]
    assert "[v2.md](01-topic_map/v2.md)" in index


async def test_an_archive_is_streamed_artifact_by_artifact(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = (await api.create_run(workflow="plan_90d", auto_approve=True))["id"]

    def work() -> None:
        for number in range(3):
            finish_next(run_id, f"# {number}\n" + "\n".join(str(uuid4()) for _ in range(20_000)))

    await asyncio.to_thread(work)
    pieces: list[int] = []
    read_artifact = queries.read_artifact

    def counted(*args: object, **kwargs: object) -> object:
        pieces.append(1)
        return read_artifact(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(queries, "read_artifact", counted)
    url = f"{api.base_url}/api/v2/runs/{run_id}/archive"
    async with api.session.get(url) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        await response.content.readany()
        assert len(pieces) <= 2
        whole = await response.read()
    assert len(pieces) == 3
    assert whole


async def test_the_archive_of_an_unknown_run_is_not_found(refusing: Api) -> None:
    (await refusing.get(f"/runs/{uuid4()}/archive")).problem(404, "not_found")
