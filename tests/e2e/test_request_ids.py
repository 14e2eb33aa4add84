"""A request's id follows its run into the log of the worker that executes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.behaviours import GOOD, refusal
from tests.fakes.model_server import ModelServer
from tests.support.deployment import Deployment, deployment
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-tests"


def post(deployed: Deployment, path: str, body: dict[str, Any], request_id: str) -> dict[str, Any]:
    """POST with a request id; return the run."""
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-ID": request_id}
    response = httpx.post(f"{deployed.url}/api/v2{path}", json=body, headers=headers, trust_env=False, timeout=20)
    assert response.is_success, response.text
    assert response.headers["X-Request-ID"] == request_id
    run: dict[str, Any] = response.json()
    return run


def failure_of(deployed: Deployment, run_id: str) -> dict[str, Any] | None:
    """Return the worker's line about the failure of a run."""
    lines = [json.loads(line) for line in deployed.worker.stderr.read_text().splitlines() if line.startswith("{")]
    return next((line for line in lines if line["event"] == "attempt.failed" and line["run_id"] == run_id), None)


def test_the_workers_log_has_the_id_of_the_request(env: dict[str, str], model: ModelServer, tmp_path: Path) -> None:
    no_model = refusal(400, "invalid_request_error", "it is not possible")
    env |= {"VM_API_TOKEN": TOKEN, "KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    with deployment(env, tmp_path) as deployed:
        model.enqueue(GOOD)
        model.enqueue(no_model)
        new = {"workflow": "content_calendar", "request": "a calendar", "auto_approve": True}
        run = post(deployed, "/runs", new, "from-the.caller_1")
        first, second = (stage["key"] for stage in run["stages"][:2])
        line = eventually(lambda: failure_of(deployed, run["id"]), "the failure is logged", seconds=40)
        assert (line["request_id"], line["stage"], line["attempt"]) == ("from-the.caller_1", second, 1)
        model.enqueue(no_model)
        fork = post(deployed, f"/runs/{run['id']}/fork", {"from_stage": first}, "from-another")
        line = eventually(lambda: failure_of(deployed, fork["id"]), "the failure is logged", seconds=40)
        assert (line["request_id"], line["stage"], line["attempt"]) == ("from-another", first, 1)
