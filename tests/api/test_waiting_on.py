"""``waiting_on``: from the same facts as readiness, for one run or for a page of them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.client import Api
from tests.support.fleet import beat, change
from tests.support.runs import read
from vm_webapp.db.pool import database
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.states import Failure


async def waits(api: Api, run: dict[str, Any]) -> Any:
    """Return what a run waits for."""
    response = await api.get(f"/runs/{run['id']}")
    assert response.status == 200, response.body
    return response.json()["waiting_on"]


async def kind(api: Api, run: dict[str, Any]) -> str:
    """Return the kind of what a run waits for."""
    waiting = await waits(api, run)
    assert waiting["since"]
    return str(waiting["kind"])


async def test_it_names_what_the_run_waits_for(api: Api) -> None:
    first, second = await api.create_run(), await api.create_run()
    assert await kind(api, first) == "no_worker"
    beat()
    assert await kind(api, first) == "queue"
    assert (await waits(api, second))["detail"] == "in the queue: 1 stage is before it"
    change("UPDATE queues SET paused_at = now()")
    assert await kind(api, first) == "queue_paused"
    change("UPDATE queues SET paused_at = NULL")
    change("INSERT INTO providers (name, paused_at, reason) VALUES ('kimi', now(), '{\"message\": \"HTTP 401\"}')")
    assert await kind(api, first) == "provider_paused"


async def test_a_retry_and_a_running_stage(api: Api) -> None:
    run = await api.create_run()
    beat()
    (stage,) = read("SELECT id FROM stages WHERE status = 'queued'")
    claim = lifecycle.claim_stage(stage["id"], Claimant(uuid4(), "kimi"), token=uuid4())
    assert claim is not None
    assert await waits(api, run) is None
    lifecycle.fail_attempt_if_held(claim, Failure("llm_overloaded", "HTTP 503", permanent=False), jitter=0.5)
    waiting = await waits(api, run)
    assert (waiting["kind"], "HTTP 503" in waiting["detail"]) == ("retry", True)
    assert waiting["until"] > waiting["since"]


async def test_a_brand_at_its_limit(api: Api) -> None:
    beat()
    brand = (await api.post("/brands", {"name": "x", "max_running": 1})).json()
    await api.create_run(brand_id=brand["id"])
    (stage,) = read("SELECT id FROM stages WHERE status = 'queued'")
    lifecycle.claim_stage(stage["id"], Claimant(uuid4(), "kimi"), token=uuid4())
    run = await api.create_run(brand_id=brand["id"])
    assert await kind(api, run) == "brand_limit"
    assert "max_running" in run["waiting_on"]["detail"]
    assert await kind(api, await api.create_run()) == "queue"


async def test_a_full_provider(api: Api) -> None:
    beat(cap=1)
    await api.create_run()
    (stage,) = read("SELECT id FROM stages WHERE status = 'queued'")
    lifecycle.claim_stage(stage["id"], Claimant(uuid4(), "kimi", 1), token=uuid4())
    assert await kind(api, await api.create_run()) == "model_limit"


async def test_a_page_of_runs_takes_as_many_statements_as_one_run(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    beat()
    for _ in range(20):
        await api.create_run()
    counts: list[int] = []
    execute_sql: Any = database.execute_sql

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts.append(1)
        return execute_sql(*args, **kwargs)

    monkeypatch.setattr(database, "execute_sql", counted)
    page = (await api.get("/runs?limit=1")).json()
    for_one = len(counts)
    counts.clear()
    assert len((await api.get("/runs?limit=20")).json()["items"]) == 20
    assert len(counts) <= for_one
    assert page["items"][0]["waiting_on"]["detail"] == "in the queue: 19 stages are before it"
