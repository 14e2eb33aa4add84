"""The log of a service that is well: no warning, a line of JSON for each event, and a run found by one search."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.support.deployment import Deployment, deployment
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
SHORT_SECONDS, LONG_SECONDS = 8.0, 3600.0
SLOWLY = Behaviour(pause=0.02)  # as long as a model's stream is: a drain then meets calls in flight
# Each record of a worker that belongs to a run.
OF_A_RUN = ("run_id", "stage", "attempt", "request_id")


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records in a log; every line must be one."""
    for line in path.read_text().splitlines():
        yield json.loads(line)


class Person:
    """Somebody who uses the API all the time, request by request."""

    def __init__(self, url: str) -> None:
        self._numbers = count(1)
        self.client = httpx.Client(base_url=f"{url}/api/v2", headers=HEADERS, trust_env=False, timeout=40)

    def create(self, workflow: str) -> tuple[str, str]:
        """Create a run; return its id and that of the request."""
        request_id = f"person-{next(self._numbers)}-{workflow}"
        new = {"workflow": workflow, "request": "a page for a bakery"}
        created = self.client.post("/runs", json=new, headers={"X-Request-ID": request_id})
        assert created.status_code == 201, created.text
        return str(created.json()["id"]), request_id

    def follow(self, run_id: str, until: str) -> None:
        """Read a run's stream until an event of this type."""
        headers = {"Accept": "text/event-stream"}
        with self.client.stream("GET", f"/runs/{run_id}/events", headers=headers) as stream:
            assert any(line == f"event: {until}" for line in stream.iter_lines()), until

    def review(self, run_id: str, *, changes: bool) -> None:
        """Decide the draft that waits."""
        draft = self.client.get(f"/runs/{run_id}").json()["stages"][0]["artifact"]["sha256"]
        decision = ("request-changes", {"feedback": "warmer"}) if changes else ("approve", {})
        decided = self.client.post(
            f"/runs/{run_id}/stages/message/{decision[0]}", json={"artifact_sha256": draft, **decision[1]}
        )
        assert decided.status_code == 200, decided.text

    def work_once(self) -> tuple[str, str]:
        """Do what people do, once; return the id of a run and of the request that created it."""
        run_id, request_id = self.create("landing_page")
        self.follow(run_id, "approval.requested")
        self.review(run_id, changes=True)
        eventually(lambda: self._drafts(run_id) == 2, "the second draft waits", every=0.2)
        self.review(run_id, changes=False)
        self.follow(run_id, "run.completed")
        for path in ("/runs", "/queue", "/workers", f"/runs/{run_id}/artifacts", "/health/ready", "/openapi.json"):
            assert self.client.get(path).status_code == 200, path
        return run_id, request_id

    def _drafts(self, run_id: str) -> int:
        stage = self.client.get(f"/runs/{run_id}").json()["stages"][0]
        return int(stage["artifact"]["version"]) if stage["status"] == "waiting_approval" else 0


@pytest.fixture(params=["short", pytest.param("an hour", marks=[pytest.mark.only_in_full, pytest.mark.timeout(4_200)])])
def seconds(request: pytest.FixtureRequest) -> float:
    """How long the service is used."""
    return SHORT_SECONDS if request.param == "short" else LONG_SECONDS


def test_a_healthy_service_logs_no_warning(
    env: dict[str, str], model: ModelServer, tmp_path: Path, seconds: float
) -> None:
    model.script = lambda body: SLOWLY
    env |= {"VM_API_TOKEN": TOKEN, "KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    with deployment(env, tmp_path) as deployed:
        person = Person(deployed.url)
        with person.client:
            eventually(
                lambda: person.client.get("/health/ready").status_code == 200, "it is ready", seconds=30, every=0.2
            )
            until = time.monotonic() + seconds
            while True:
                run_id, request_id = person.work_once()
                if time.monotonic() >= until:
                    break
            person.create("content_calendar")
            eventually(lambda: model.in_flight, "a call is in flight when the drain begins")
            deployed.worker.process.send_signal(signal.SIGTERM)
            assert deployed.worker.process.wait(40) == 0
        assert deployed.api.stop() == 0
    _check(deployed)
    _check_that_one_search_finds_the_run(deployed, run_id, request_id)


def _check(deployed: Deployment) -> None:
    api, worker = list(lines_of(deployed.api.stderr)), list(lines_of(deployed.worker.stderr))
    records = [*api, *worker]
    offending = [each for each in records if each["level"] not in ("info", "debug") or "exception" in each]
    assert not offending, "\n".join(map(json.dumps, offending))
    assert len(api) > 5
    assert len({each["worker"] for each in worker if "worker" in each}) == 1
    of_runs = [each for each in worker if "run_id" in each]
    assert of_runs
    incomplete = [each for each in of_runs if not {*OF_A_RUN, "worker"} <= each.keys()]
    assert not incomplete, "\n".join(map(json.dumps, incomplete))


def _check_that_one_search_finds_the_run(deployed: Deployment, run_id: str, request_id: str) -> None:
    found = [
        json.loads(line)
        for log in (deployed.api.stderr, deployed.worker.stderr)
        for line in log.read_text().splitlines()
        if request_id in line
    ]
    (request, *carried) = found
    assert (request["event"], request["status"], request["route"]) == ("request.done", 201, "/api/v2/runs")
    assert {each["event"] for each in carried} == {"run.carried"}
    assert {each["run_id"] for each in carried} == {run_id}
    # Two drafts, each up to a review, and the two stages after the approval on one thread.
    assert sum(each["stages"] for each in carried) == 4
