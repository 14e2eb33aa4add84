"""The queue and the probes through the client, on a real API."""

from __future__ import annotations

import pytest
from aiohttp import web

from tests.api.client import Api
from tests.api.conftest import TOKEN
from tests.fakes.stranger import responding
from vm_webapp.client import ApiClient, open_api
from vm_webapp.client.errors import NotThisApi, Refused
from vm_webapp.client.shapes import RunFilter

QUEUED = RunFilter(status="queued", workflow=None, older_than_seconds=None)
FAILED = RunFilter(status="failed", workflow=None, older_than_seconds=None)


async def test_the_queue_is_paused_and_resumed(client: ApiClient) -> None:
    assert (await client.queue.status())["paused"] is False
    paused = await client.queue.pause("a bad prompt")
    assert (paused["paused"], paused["reason"]) == (True, "a bad prompt")
    assert await client.queue.status() == paused
    assert (await client.queue.pause(None))["reason"] == "a bad prompt"
    assert (await client.queue.resume())["paused"] is False


async def test_many_runs_are_changed_batch_after_batch(client: ApiClient) -> None:
    for _ in range(2):
        await client.runs.create(workflow="content_calendar", request="a calendar")
    asked = await client.queue.cancel_matching(QUEUED, after=None, dry_run=True)
    assert (asked["matched"], asked["changed"], len(asked["run_ids"])) == (2, 0, 2)
    done = await client.queue.cancel_matching(QUEUED, after=None, dry_run=False)
    assert (done["matched"], done["changed"], done["next_after"]) == (2, 2, None)
    assert (await client.queue.retry_matching(FAILED, after=None, dry_run=False))["matched"] == 0


async def test_a_provider_that_nobody_has_used_is_refused(client: ApiClient) -> None:
    await client.queue.pause(None)
    for name in ("nobody", "../queue"):
        with pytest.raises(Refused, match=f"there is no provider {name}"):
            await client.queue.resume_provider(name)
    assert (await client.queue.status())["paused"] is True


async def test_workers_and_workflows_are_listed(client: ApiClient) -> None:
    assert await client.queue.workers() == []
    assert "smoke" in [workflow["name"] for workflow in (await client.workflows())["items"]]


async def test_readiness_returns_why_work_cannot_progress(client: ApiClient) -> None:
    await client.health.live()
    readiness = await client.health.ready()
    assert (readiness.ready, readiness.status) == (False, 503)
    assert any("worker" in reason for reason in readiness.reasons)
    assert readiness.dependencies is not None
    assert readiness.dependencies["database"]["status"] == "ok"


async def test_the_build_is_shown_to_callers_with_credentials(managed: Api) -> None:
    async with open_api(managed.base_url, trust_env=False) as client:
        assert (await client.health.ready()).build is None
        client.use_token(TOKEN)
        assert (await client.health.ready()).build == managed.services.settings.build


@pytest.mark.parametrize(
    ("status", "text", "ready", "reasons", "whole"),
    [
        (200, '{"status":"ready","dependencies":{"database":{"status":"ok"}}}', True, (), True),
        (200, '{"status":"ready","dependencies":{}}', True, (), True),
        (200, '{"status":"ready","dependencies":{"database":{}}}', True, (), False),
        (200, '{"status":"ready","dependencies":[]}', True, (), False),
        (503, '{"status":"ready","dependencies":{}}', False, (), True),
        (200, '{"status":"not_ready","reasons":["a",1],"dependencies":{}}', False, ("a", "1"), True),
        (503, '{"status":"not_ready","reasons":7,"build":8}', False, (), False),
        (404, "{}", False, (), False),
    ],
)
async def test_any_response_but_ready_means_not_ready(
    status: int, text: str, ready: bool, reasons: tuple[str, ...], whole: bool
) -> None:
    async with (
        responding(lambda request: web.Response(status=status, text=text)) as address,
        open_api(address, trust_env=False) as client,
    ):
        readiness = await client.health.ready()
    assert (
        readiness.ready,
        readiness.status,
        readiness.reasons,
        readiness.dependencies is not None,
        readiness.build,
    ) == (
        ready,
        status,
        reasons,
        whole,
        None,
    )


@pytest.mark.parametrize("text", ["[]", "<html>", '{"status": "live"}'])
async def test_a_live_server_with_another_body_is_not_this_api(text: str) -> None:
    async with (
        responding(lambda request: web.Response(text=text)) as address,
        open_api(address, trust_env=False) as client,
    ):
        with pytest.raises(NotThisApi) as error:
            await client.health.live()
    assert error.value.response.content == text.encode()
