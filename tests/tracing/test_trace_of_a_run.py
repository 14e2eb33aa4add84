"""One run in a collector: over API and worker, with a retry, a request for changes and an approval."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.behaviours import refusal
from tests.fakes.collector import FakeCollector, SpanSeen
from tests.fakes.model_server import ModelServer
from tests.servers.packages import rotel
from tests.support.deployment import deployment, managed_environment
from tests.support.runs import read
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-tests"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
RUN = re.compile(r"[0-9a-f-]{36}")


@pytest.fixture(params=["straight", pytest.param("through rotel", marks=pytest.mark.only_in_full)])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, FakeCollector]]:
    """Where the product sends its traces, and where they arrive: the same, or behind a released collector."""
    with FakeCollector() as receiver:
        if request.param == "straight":
            yield receiver.endpoint, receiver
        else:
            with rotel(receiver.endpoint, tmp_path / "rotel") as address:
                yield address, receiver


class Caller:
    """A client that traces its own requests."""

    def __init__(self, url: str, run_id: str = "") -> None:
        self._url = f"{url}/api/v2/runs"
        self._run = run_id

    def post(self, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """POST, and return the run."""
        response = httpx.post(
            self._url + path,
            json=body,
            headers={"Authorization": f"Bearer {TOKEN}", **headers},
            trust_env=False,
            timeout=20,
        )
        assert response.is_success, response.text
        run: dict[str, Any] = response.json()
        return run

    def draft(self, run_id: str, *, version: int) -> str:
        """Wait until this version of the first stage's draft waits for a person; return its digest."""

        def waiting() -> str | None:
            run = httpx.get(f"{self._url}/{run_id}", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
            stage = run.json()["stages"][0]
            waits = stage["status"] == "waiting_approval" and stage["artifact"]["version"] == version
            return str(stage["artifact"]["sha256"]) if waits else None

        return eventually(waiting, f"draft {version} waits", seconds=60)

    def finished(self, run_id: str) -> bool:
        """Return whether the run is finished."""
        run = httpx.get(f"{self._url}/{run_id}", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
        return bool(run.json()["finished_at"])


def test_a_run_is_one_trace_over_both_processes(
    endpoint: tuple[str, FakeCollector], database: str, redis_url: str, model: ModelServer, tmp_path: Path
) -> None:
    address, collector = endpoint
    env = managed_environment(database, redis_url, tmp_path, VM_API_TOKEN=TOKEN, OTEL_EXPORTER_OTLP_ENDPOINT=address)
    env |= {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url, "KIMI_MODEL": "a-model"}
    model.enqueue(refusal(503, "server_error", "busy"))
    with deployment(env, tmp_path) as deployed:
        caller = Caller(deployed.url)
        new = {"workflow": "landing_page", "request": "a page for a bakery"}
        id = caller.post("", new, traceparent=CALLER, **{"X-Request-ID": "from-the-caller"})["id"]
        review = f"/{id}/stages/message"
        first = caller.draft(id, version=1)
        caller.post(f"{review}/request-changes", {"artifact_sha256": first, "feedback": "warmer"})
        second = caller.draft(id, version=2)
        caller.post(f"{review}/approve", {"artifact_sha256": second})
        eventually(lambda: caller.finished(id), "the run finishes", seconds=60)
        assert deployed.worker.stop() == 0
        assert deployed.api.stop() == 0
        log = deployed.worker.stderr.read_text()

    spans = {span.span_id: span for span in collector.spans}
    trace = [span for span in collector.spans if span.trace_id == TRACE]

    def parent(span: SpanSeen) -> str:
        return spans[span.parent_id].name

    (post,) = (span for span in trace if span.name == "POST /api/v2/runs")
    assert post.parent_id == CALLER[36:52]
    assert post.attributes["http.response.status_code"] == 201
    assert post.attributes["vm.request_id"] == "from-the-caller"
    assert post.resource["service.name"] == "vm-webapp-api"
    (published,) = read("SELECT instance FROM process_metrics WHERE kind = 'api'")
    assert post.resource["service.instance.id"] == published["instance"]
    (run,) = (span for span in trace if span.name == "run landing_page")
    assert (parent(run), run.attributes["vm.run_id"]) == (post.name, id)

    attempts = sorted((span for span in trace if span.name.startswith("stage ")), key=lambda span: span.start_ns)
    assert [(span.attributes["vm.stage"], span.attributes["vm.attempt"]) for span in attempts] == [
        *(("message", 1), ("message", 2), ("message", 3)),
        *(("copy", 1), ("variants", 1)),
    ]
    assert [span.attributes["vm.outcome"] for span in attempts] == ["retrying", *["finished"] * 4]
    assert [span.attributes.get("error.type") for span in attempts] == ["llm_overloaded", *[None] * 4]
    assert [span.attributes.get("vm.changes_requested") for span in attempts] == [None, None, True, None, None]
    assert {parent(span) for span in attempts} == {run.name}
    assert {span.resource["service.name"] for span in attempts} == {"vm-webapp-worker"}

    calls = sorted((span for span in trace if span.name == "chat a-model"), key=lambda span: span.start_ns)
    assert [spans[span.parent_id] for span in calls] == attempts
    assert [span.failed for span in calls] == [True, *[False] * 4]
    assert calls[0].attributes["error.type"] == "llm_overloaded"
    assert {key: value for key, value in calls[1].attributes.items() if not key.startswith("gen_ai.usage")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "kimi",
        "gen_ai.request.model": "a-model",
        "gen_ai.response.model": "a-model",
        "server.address": "127.0.0.1",
        "server.port": int(model.base_url.split(":")[2].split("/")[0]),
    }
    assert calls[1].attributes["gen_ai.usage.output_tokens"] > 0

    reviews = sorted((span for span in trace if span.name == "review message"), key=lambda span: span.start_ns)
    assert [span.attributes["vm.decision"] for span in reviews] == ["changes_requested", "approved"]
    assert {parent(span) for span in reviews} == {run.name}
    decisions = [spans[link] for span in reviews for link in span.links]
    assert [RUN.sub("{id}", span.attributes["http.route"].rpartition("/")[2]) for span in decisions] == [
        "request-changes",
        "approve",
    ]
    assert all(span.trace_id != TRACE for span in decisions)

    # Neither what was asked and written nor a key is in any span, and the log leads to the trace.
    shown = repr(collector.spans)
    assert not [secret for secret in ("bakery", "warmer", "sk-test-key", TOKEN) if secret in shown]
    failed = next(line for line in map(json.loads, log.splitlines()) if line["event"] == "attempt.failed")
    assert (failed["trace_id"], failed["request_id"]) == (TRACE, "from-the-caller")


def test_a_stranger_is_not_believed_and_probes_and_scrapes_are_no_spans(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    with FakeCollector() as collector:
        env = managed_environment(
            database, redis_url, tmp_path, VM_API_TOKEN=TOKEN, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint
        )
        with deployment(env, tmp_path) as deployed:
            with httpx.Client(base_url=f"{deployed.url}/api/v2", trust_env=False) as client:
                assert client.get("/runs", headers={"traceparent": CALLER}).status_code == 401
                assert client.get("/health/live", headers={"traceparent": CALLER}).status_code == 200
            scrape = {"traceparent": CALLER, "Authorization": f"Bearer {TOKEN}"}
            assert httpx.get(f"{deployed.url}/metrics", headers=scrape, trust_env=False).status_code == 200
            assert deployed.api.stop() == 0
        (span,) = collector.spans
    assert (span.name, span.attributes["http.response.status_code"]) == ("GET /api/v2/runs", 401)
    assert (span.parent_id, span.trace_id == TRACE) == ("", False)
