"""Every query of the dashboard and of the rules, run by a real Prometheus that scrapes a deployment at work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.deploy.monitoring import ALERTS, PANELS, scraping_configuration
from tests.fakes.behaviours import GOOD, Behaviour
from tests.fakes.model_server import ModelServer
from tests.support.databases import Databases
from tests.support.deployment import deployment, managed_environment
from tests.support.folders import open_folder
from tests.support.prometheus import Prometheus, prometheus, promtool, require
from tests.support.waiting import eventually
from vm_webapp.local import LocalServers, find_redis_server

pytestmark = pytest.mark.timeout(300)

TOKEN = "a-token-of-the-tests"
PRICES = '{"currency": "USD", "models": {"*": {"prompt": 1, "completion": 2}}}'
REFUSED = Behaviour(status=400, body=b'{"error": {"message": "no", "type": "invalid_request_error"}}')
OVERLOADED = Behaviour(status=503, body=b"{}")
QUERIES = {
    f"{panel['title']}: {target['legendFormat']}": target["expr"].replace("$__rate_interval", "1m")
    for panel in PANELS
    for target in panel["targets"]
}
# Nothing of this happens in a deployment that is well.
OFTEN_EMPTY = {
    "Dependencies that are not ok: {{dependency}} {{status}}",
    "Refused by a limit, per second: {{route}}",
    "Threads that wait for a database connection, on average: {{process}}",
    "Time that they wait, p95: {{process}}",
}


@dataclass(frozen=True)
class Watched:
    """A deployment that has worked, its exposition, and the Prometheus that scrapes it."""

    exposition: str
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(servers: LocalServers, databases: Databases) -> Iterator[Watched]:
    """A deployment in which runs were completed, reviewed, refused by the model and tried again."""
    require("prometheus")
    if find_redis_server() is None or servers.redis_url is None:
        pytest.skip("there is no Redis server for this platform")
    database = databases.take()
    with open_folder() as folder, ModelServer(_respond) as model:
        given = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url, "VM_MODEL_PRICES": PRICES}
        env = managed_environment(databases.url(database), servers.redis_url, folder, VM_API_TOKEN=TOKEN, **given)
        with deployment(env, folder) as running, _client(running.url) as http:
            eventually(lambda: http.get("/api/v2/health/ready").status_code == 200, "ready", seconds=60)
            with prometheus(scraping_configuration(folder, running.url, TOKEN)) as scraping:
                _work(http)
                eventually(lambda: scraping.query("sum(fleet:vm_runs_finished_total:sum) > 1"), "the runs", seconds=60)
                yield Watched(http.get("/metrics").raise_for_status().text, scraping)
    databases.release(database)


def _respond(body: dict[str, Any]) -> Behaviour:
    prompt = json.dumps(body)
    return REFUSED if "refused" in prompt else OVERLOADED if "overloaded" in prompt else GOOD


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False)


def _work(http: httpx.Client) -> None:
    """Create runs, and wait until one is completed, after a review, and one has failed."""
    created = {
        request: http.post("/api/v2/runs", json={"workflow": workflow, "request": request}).raise_for_status().json()
        for workflow, request in {
            "plan_90d": "a plan with a review",
            "landing_page": "a page that is refused",
            "email_sequence": "mails that are overloaded",
        }.items()
    }
    (waiting,) = eventually(lambda: http.get("/api/v2/approvals").json()["items"], "a draft waits", seconds=60)
    decided = f"/api/v2/runs/{waiting['run_id']}/stages/{waiting['stage']}/approve"
    http.post(decided, json={"artifact_sha256": waiting["sha256"]}).raise_for_status()
    for request, status in {"a plan with a review": "completed", "a page that is refused": "failed"}.items():
        address = f"/api/v2/runs/{created[request]['id']}"
        eventually(lambda: http.get(address).json()["status"] == status, f"{request} is {status}", seconds=60)  # noqa: B023


def test_promtool_finds_nothing_wrong_with_the_exposition(watched: Watched) -> None:
    promtool("check", "metrics", stdin=watched.exposition)


def test_every_panel_has_data_with_the_labels_that_it_shows(watched: Watched) -> None:
    for name, query in QUERIES.items():
        labels = set(re.findall(r"{{(\w+)}}", name))
        found = watched.prometheus.query(query)
        if name not in OFTEN_EMPTY:
            # Each process publishes every five seconds, and a rate needs two samples.
            found = eventually(lambda: watched.prometheus.query(query), name, seconds=60, every=0.2)  # noqa: B023
        assert [each["metric"] for each in found if not labels <= each["metric"].keys()] == [], name


def test_every_rule_is_evaluated_without_an_error(watched: Watched) -> None:
    def evaluated() -> list[dict[str, Any]]:
        rules = watched.prometheus.rules()
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = eventually(evaluated, "every rule evaluated", seconds=60)
    assert {rule["name"] for rule in rules} >= set(ALERTS)
    assert [rule["name"] for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []


def test_a_series_names_the_process_that_it_comes_from(watched: Watched) -> None:
    found = [each["metric"] for each in watched.prometheus.query("vm_build_info")]
    assert sorted(each["process"] for each in found) == ["api", "worker"]
    assert {f'instance="{each["instance"]}"' in watched.exposition for each in found} == {True}
