"""The model server is down, or the key is revoked, while many runs wait: they wait longer, and complete afterwards."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.chaos.harness import Api, Fleet
from tests.chaos.ledger import assert_nothing_lost, create_many, failures, wait_for_all
from tests.fakes.behaviours import GOOD, REFUSALS, Behaviour
from tests.fakes.model_server import ModelServer
from tests.support.forms import only_in_full
from tests.support.runs import CATALOG, read
from tests.support.waiting import eventually
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import transaction
from vm_webapp.runs import lifecycle, providers
from vm_webapp.runs.lifecycle import NewRun

pytestmark = pytest.mark.timeout(1200)

SILENT = Behaviour(silent=True)
SILENT_CALL_SECONDS = 2.0


@pytest.fixture
def api(fleet: Fleet) -> Api:
    return fleet.start_api()


def llm(api: Api) -> str:
    """Return the model's status in readiness."""
    return str(api.readiness()["dependencies"]["llm"]["status"])


def wait_until_ok(api: Api) -> None:
    """Wait until readiness says ``ok``. It is updated once a second, so it may be older than the last completed run."""
    eventually(lambda: llm(api) == "ok", "readiness says that the model works", seconds=5)


def statuses() -> dict[str, int]:
    return {row["status"]: row["n"] for row in read("SELECT status, count(*) AS n FROM runs GROUP BY status")}


@pytest.mark.parametrize("kind", ["unavailable", only_in_full("silent")])
def test_an_outage_fails_no_run(fleet: Fleet, model: ModelServer, api: Api, full: bool, kind: str) -> None:
    runs, seconds = (300, 600.0) if full else (20, 3.0)
    wait_out(fleet, model, api, kind, runs, seconds)


@pytest.mark.only_in_full
def test_a_server_that_refuses_connections_fails_no_run(fleet: Fleet, model: ModelServer, api: Api) -> None:
    wait_out(fleet, model, api, "refused", 300, 600.0)


def wait_out(fleet: Fleet, model: ModelServer, api: Api, kind: str, runs: int, seconds: float) -> None:
    """Let runs wait while the server responds 503 (``unavailable``), never (``silent``) or is down (``refused``)."""
    fleet.start_and_wait(2, threads=16)
    port = int(model.base_url.split(":")[2].split("/")[0])
    if kind == "refused":
        model.__exit__(None, None, None)
    else:
        model.script = lambda body: SILENT if kind == "silent" else REFUSALS["unavailable"]
    if kind == "silent":
        create_with_short_time_out(runs)
    else:
        create_many(runs)
    eventually(lambda: llm(api) == "paused", "readiness says that the model is paused")
    time.sleep(seconds)
    assert failures() == []
    assert llm(api) == "paused"
    calls = len(model.requests)
    back = time.monotonic()
    if kind == "refused":
        with ModelServer(port=port):
            wait_for_all(seconds=180)
    else:
        model.script = lambda body: GOOD
        wait_for_all(seconds=180)

    assert_nothing_lost(runs)
    wait_until_ok(api)
    print(
        f"{kind} for {seconds:.0f} s with {runs} runs waiting: none failed, {calls} calls were tried;"
        f" all completed {time.monotonic() - back:.0f} s after its end"
    )


def create_with_short_time_out(count: int) -> None:
    """Create runs whose calls time out after two seconds, so that a test can wait for it."""
    plan = CATALOG.get("plan_90d")
    hurried = replace(plan, stages=tuple(replace(s, timeout_seconds=SILENT_CALL_SECONDS) for s in plan.stages))
    for number in range(count):
        lifecycle.create_run(NewRun(hurried, f"request {number}", auto_approve=True), actor=Actor("tests"))


def test_a_revoked_key_fails_one_run_and_stops_the_rest(fleet: Fleet, model: ModelServer, api: Api) -> None:
    runs = 40
    model.script = lambda body: REFUSALS["unauthorized"]
    fleet.start_and_wait(2, threads=16)
    create_many(runs)
    eventually(lambda: llm(api) == "paused" and model.in_flight == 0, "readiness says that the model is paused")
    under_way = "SELECT count(*) AS n FROM stages WHERE status = 'running'"
    eventually(lambda: read(under_way)[0]["n"] == 0, "calls in flight have ended")
    assert [(why["code"], why["n"]) for why in failures()] == [("llm_unauthorized", 1)]
    assert api.readiness()["status"] == "ready"

    model.script = lambda body: GOOD
    with transaction():
        assert providers.resume("kimi")
    wait_for_all(seconds=60)
    assert statuses() == {"completed": runs - 1, "failed": 1}
    wait_until_ok(api)
