"""The probes: liveness depends on nothing; readiness says what is wrong, and shows no host without credentials."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.api.client import Api
from tests.api.conftest import TOKEN
from vm_webapp import __version__
from vm_webapp.db.bundle import bundled_ids, own_bundle
from vm_webapp.db.pool import execute, transaction
from vm_webapp.fleet.heartbeats import Heartbeat, WorkerIdentity, write_heartbeat

HOST = "worker-17.internal"
PID = 987_654


@pytest.fixture
def worker(database: str) -> WorkerIdentity:
    """A worker with a fresh heartbeat."""
    identity = WorkerIdentity(uuid4(), "kimi", 4, host=HOST, pid=PID)
    write_heartbeat(identity, Heartbeat("working", 0))
    return identity


async def test_liveness_is_always_this_exact_body(refusing: Api) -> None:
    response = await refusing.get("/health/live")
    assert (response.status, response.body) == (200, b'{"status":"live"}')


async def test_with_a_worker_it_is_ready(api: Api, worker: WorkerIdentity) -> None:
    response = await api.get("/health/ready")
    body = response.json()
    assert (response.status, body["status"]) == (200, "ready")
    assert "reasons" not in body
    assert body["dependencies"] == {
        "database": {"status": "ok"},
        "worker": {"status": "ok", "alive": 1},
        "redis": {"status": "ok"},
        "clock": {"status": "ok"},
        "workspace": {"status": "ok"},
        "migrations": {"status": "ok", "newest": bundled_ids()[-1]},
        "llm": {"status": "offline", "note": "no model is called: set KIMI_API_KEY"},
    }


async def test_without_a_worker_it_is_not_ready_and_says_what_to_do(refusing: Api) -> None:
    response = await refusing.get("/health/ready")
    body = response.json()
    assert (response.status, body["status"]) == (503, "not_ready")
    assert body["reasons"] == ["no worker has ever used this database: start one, with the same VM_DB_URL as the API"]
    assert body["dependencies"]["worker"]["status"] == "down"


async def test_with_a_migration_missing_it_is_not_ready_and_names_the_command(api: Api, worker: WorkerIdentity) -> None:
    needed = [id for id, files in own_bundle().migrations.items() if not files.deferrable]
    with transaction():
        execute("DELETE FROM _yoyo_migration WHERE migration_id = %(id)s", id=needed[-1])
    response = await api.get("/health/ready")
    assert response.status == 503
    assert response.json()["dependencies"]["migrations"]["status"] == "pending"
    assert "vm_webapp migrate" in response.json()["reasons"][0]


async def test_without_credentials_no_host_pid_or_fingerprint_is_shown(
    api: Api, managed: Api, worker: WorkerIdentity
) -> None:
    for open_api in (api, managed):
        text = (await open_api.get("/health/ready")).body.decode()
        assert '"ready"' in text
        for secret in (HOST, str(PID), str(worker.worker_id), "fingerprint"):
            assert secret not in text


async def test_the_tokens_holder_sees_the_workers(managed: Api, worker: WorkerIdentity) -> None:
    body = (await managed.get("/health/ready", headers={"Authorization": f"Bearer {TOKEN}"})).json()
    (seen,) = body["dependencies"]["worker"]["workers"]
    assert (seen["host"], seen["pid"], seen["worker_id"]) == (HOST, PID, str(worker.worker_id))


async def test_only_the_tokens_holder_sees_the_build(managed: Api, api: Api, worker: WorkerIdentity) -> None:
    body = (await managed.get("/health/ready", headers={"Authorization": f"Bearer {TOKEN}"})).json()
    assert body["build"] == __version__
    for stranger in (managed, api):
        assert "build" not in (await stranger.get("/health/ready")).json()


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_a_probe_takes_no_parameters(refusing: Api, path: str) -> None:
    assert (await refusing.get(f"{path}?verbose=1")).wrong(422, "invalid_parameter") == {"verbose"}
