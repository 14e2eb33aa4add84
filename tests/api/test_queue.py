"""Operators' routes: the queue, its bulk changes, providers and workers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.client import Api
from tests.support.runs import create, read
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat
from vm_webapp.ops import bulk

RUN_STATUS = "SELECT status FROM runs ORDER BY id"


async def test_the_queue_returns_every_figure_of_the_contract(api: Api) -> None:
    write_heartbeat(WorkerIdentity(uuid4(), "kimi", 4), Heartbeat("working", 1))
    create()
    body = (await api.get("/queue")).json()
    assert body.pop("oldest_due_seconds") >= 0
    assert body == {
        "queued": 1,
        "running": 0,
        "due": 1,
        "workers": 1,
        "slots": 4,
        "in_flight": 1,
        "draining": 0,
        "arrivals_per_minute": None,
        "completions_per_minute": None,
        "mean_stage_seconds": None,
        "paused": False,
        "paused_at": None,
        "paused_by": None,
        "reason": None,
        "desired_workers": 1,
        "autoscale": {
            "reason": "no decision in the last 30 s: enough workers for all work at once",
            "decided_at": None,
            "stale": True,
            "min_workers": 1,
            "max_workers": 10,
            "target_wait_seconds": 30.0,
            "scaler": None,
            "calls": [],
        },
    }


async def test_pausing_says_who_and_why_and_resuming_forgets_it(api: Api) -> None:
    paused = (await api.post("/queue/pause", {"reason": "a bad prompt"})).json()
    assert (paused["paused"], paused["paused_by"], paused["reason"]) == (True, "local", "a bad prompt")
    run = await api.create_run()
    assert run["waiting_on"]["kind"] == "queue_paused"
    resumed = (await api.request("POST", "/queue/resume")).json()
    assert (resumed["paused"], resumed["paused_at"], resumed["reason"]) == (False, None, None)


async def test_canceling_many_is_a_dry_run_first_and_done_once_under_a_key(api: Api) -> None:
    runs = [(await api.create_run())["id"] for _ in range(2)]
    await api.create_run(workflow="plan_90d")
    where = {"workflow": "content_calendar"}
    preview = (await api.post("/queue/cancel", where | {"dry_run": True})).json()
    assert preview == {"matched": 2, "changed": 0, "busy": 0, "run_ids": runs, "next_after": None}
    first = await api.post("/queue/cancel", where, headers={"Idempotency-Key": "one"})
    assert first.json() == preview | {"changed": 2}
    again = await api.post("/queue/cancel", where, headers={"Idempotency-Key": "one"})
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    assert [each["status"] for each in read(RUN_STATUS)] == ["canceled", "canceled", "queued"]


async def test_a_batch_returns_the_position_of_the_next_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    runs = [(await api.create_run())["id"] for _ in range(3)]
    first = (await api.post("/queue/cancel", {"status": "queued"})).json()
    assert (first["run_ids"], first["next_after"]) == (runs[:2], runs[1])
    rest = (await api.post("/queue/cancel", {"status": "queued", "after": first["next_after"]})).json()
    assert (rest["run_ids"], rest["next_after"]) == (runs[2:], None)


async def test_a_bulk_retry_takes_only_failed_runs(api: Api) -> None:
    run = await api.create_run()
    assert (await api.post("/queue/retry", {"status": "failed"})).json()["matched"] == 0
    with transaction():
        execute(
            """
            UPDATE stages SET status = 'failed', finished_at = now(),
                              error = '{"code": "x", "message": "y", "retryable": false}' WHERE status = 'queued'
            """
        )
        execute(
            "UPDATE runs SET status = 'failed', finished_at = now(),"
            ' error = \'{"code": "x", "message": "y", "retryable": false}\''
        )
    assert (await api.post("/queue/retry", {"status": "failed"})).json()["run_ids"] == [run["id"]]
    assert read(RUN_STATUS) == [{"status": "queued"}]


@pytest.mark.parametrize(
    ("path", "body", "pointers"),
    [
        ("/queue/cancel", {}, None),
        ("/queue/retry", {"dry_run": True}, None),
        ("/queue/cancel", {"status": "completed"}, {"/status"}),
        ("/queue/retry", {"status": "queued"}, {"/status"}),
        ("/queue/cancel", {"older_than_seconds": -1}, {"/older_than_seconds"}),
        ("/queue/cancel", {"workflow": "nonesuch"}, {"/workflow"}),
        ("/queue/retry", {"workflow": "nonesuch"}, {"/workflow"}),
        ("/queue/retry", {"status": "failed", "after": "yesterday"}, {"/after"}),
        ("/queue/pause", {"why": "x"}, {"/why"}),
    ],
)
async def test_a_bulk_change_with_wrong_values_is_refused(
    refusing: Api, path: str, body: dict[str, Any], pointers: set[str] | None
) -> None:
    problem = (await refusing.post(path, body)).problem(422, "invalid_input")
    assert pointers is None or {each["pointer"] for each in problem["errors"]} == pointers


async def test_a_provider_is_resumed_by_name(api: Api) -> None:
    (await api.request("POST", "/providers/nobody/resume")).problem(404, "not_found")
    with transaction():
        execute("INSERT INTO providers (name, paused_at) VALUES ('kimi', now())")
    assert (await api.request("POST", "/providers/kimi/resume")).json() == {"name": "kimi", "resumed": True}
    assert (await api.request("POST", "/providers/kimi/resume")).json() == {"name": "kimi", "resumed": False}


async def test_workers_are_listed_by_their_heartbeats(api: Api) -> None:
    identity = WorkerIdentity(uuid4(), "kimi", 4, host="worker-17.internal", pid=17)
    write_heartbeat(identity, Heartbeat("working", 2, counters={"claims": 3}))
    body = (await api.get("/workers")).json()
    (worker,) = body["items"]
    assert body["next_cursor"] is None
    assert (worker["worker_id"], worker["host"], worker["pid"]) == (str(identity.worker_id), "worker-17.internal", 17)
    assert (worker["state"], worker["fresh"], worker["in_flight"], worker["counters"]) == (
        "working",
        True,
        2,
        {"claims": 3},
    )
