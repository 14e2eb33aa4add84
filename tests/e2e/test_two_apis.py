"""A reviewed run over HTTP: two API processes, one worker, real PostgreSQL and Redis, and one of the two is killed."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.support.deployment import address_of, managed_environment
from tests.support.processes import Program, program
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-tests"


class Process:
    """An API process and a client of it."""

    def __init__(self, running: Program) -> None:
        self.program = running
        self.http = httpx.Client(
            base_url=f"{address_of(running)}/api/v2",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
            trust_env=False,
        )

    def get(self, path: str, **params: Any) -> Any:
        """GET a path, which must be there."""
        return self.http.get(path, params=params).raise_for_status().json()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        """POST to a path, which must accept it."""
        return self.http.post(path, json=body, headers=headers).raise_for_status().json()


@pytest.fixture
def env(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> dict[str, str]:
    """The environment of every service of a deployment."""
    model_key = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    return managed_environment(database, redis_url, tmp_path, VM_API_TOKEN=TOKEN, **model_key)


def waits_with(process: Process, run_id: str, key: str, *, attempt: int = 1) -> dict[str, Any] | None:
    """Return the stage if it waits for a person with the draft of this attempt."""
    for stage in process.get(f"/runs/{run_id}")["stages"]:
        if (stage["key"], stage["status"], stage["attempt"]) == (key, "waiting_approval", attempt):
            return dict(stage)
    return None


def read_stream(process: Process, run_id: str, *, after: int | None, most: int | None = None) -> list[tuple[int, str]]:
    """Return ids and types of the stored events of a stream, until it ends or so many have come."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after is not None else {})
    found: list[tuple[int, str]] = []
    try:
        with process.http.stream("GET", f"/runs/{run_id}/events", headers=headers) as response:
            for line in response.iter_lines():
                event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if "type" in event:
                    found.append((event["id"], event["type"]))
                if most is not None and len(found) >= most:
                    break
    except httpx.HTTPError:
        pass  # the process was killed
    return found


def test_a_reviewed_run_over_two_processes_of_which_one_dies(
    env: dict[str, str], model: ModelServer, tmp_path: Path
) -> None:
    model.script = lambda body: Behaviour(text=f"# Document {len(model.requests)}")
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> Program:
            return stack.enter_context(program(*arguments, env=env, folder=tmp_path / name))

        one = Process(start("one", "serve", "--port", "0"))
        two = Process(start("two", "serve", "--port", "0"))
        worker = start("worker", "worker", "--poll-interval-ms", "500")
        eventually(lambda: one.http.get("/health/ready").status_code == 200, "ready", seconds=20)
        body = {"workflow": "foundation", "request": "A CRM for dental clinics"}
        run = one.post("/runs", body, **{"Idempotency-Key": "first"})
        assert two.post("/runs", body, **{"Idempotency-Key": "first"}) == run
        seen = read_stream(two, run["id"], after=None, most=4)
        draft = eventually(lambda: waits_with(two, run["id"], "brand_voice"), "a draft waits")
        (listed,) = two.get("/approvals")["items"]
        assert (listed["stage"], listed["sha256"]) == ("brand_voice", draft["artifact"]["sha256"])
        assert one.get(f"/runs/{run['id']}")["waiting_on"]["kind"] == "approval"
        path = f"/runs/{run['id']}/stages/brand_voice"
        digest = {"artifact_sha256": draft["artifact"]["sha256"]}
        one.post(f"{path}/request-changes", digest | {"feedback": "warmer, please"})
        again = eventually(lambda: waits_with(two, run["id"], "brand_voice", attempt=2), "another draft waits")
        stale = one.http.post(f"{path}/approve", json=digest)
        assert (stale.status_code, stale.json()["current_sha256"]) == (409, again["artifact"]["sha256"])
        two.program.kill()
        one.post(f"{path}/approve", {"artifact_sha256": again["artifact"]["sha256"], "content": "# Edited"})
        for key in ("positioning", "keywords"):
            stage = eventually(lambda key=key: waits_with(one, run["id"], key), f"{key} waits")  # type: ignore[misc]
            one.post(f"/runs/{run['id']}/stages/{key}/approve", {"artifact_sha256": stage["artifact"]["sha256"]})
        seen += read_stream(one, run["id"], after=seen[-1][0])
        assert not one.get("/queue")["autoscale"]["stale"]
        assert one.get(f"/runs/{run['id']}")["status"] == "completed"
        stored = [(event["id"], event["type"]) for event in one.get(f"/runs/{run['id']}/events", limit=200)["items"]]
        assert seen == stored
        prompts = [str(request.body["messages"][1]["content"]) for request in model.requests]
        assert "warmer, please" in prompts[2]
        assert "# Edited" in prompts[3]
        assert worker.stop() == 0
        assert one.program.stop() == 0
