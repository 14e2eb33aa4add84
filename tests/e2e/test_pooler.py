"""A deployment whose PostgreSQL is behind a real PgBouncer: API, worker, a reviewed run, a cancel, the commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest

from tests.fakes.behaviours import Behaviour
from tests.fakes.model_server import ModelServer
from tests.support.commands import command
from tests.support.deployment import Deployment, deployment, managed_environment
from tests.support.forms import only_in_full
from tests.support.pgbouncer import PgBouncer, pgbouncer
from tests.support.waiting import eventually

TOKEN = "a-token-of-the-tests"
POOLERS: dict[str, dict[str, object]] = {
    "refuses options": {},
    "swallows options": {"ignore_startup_parameters": "options"},
    "session mode": {"pool_mode": "session", "default_pool_size": 30},
}
# What a client finds that connects through the pooler after ours: nothing but what PgBouncer keeps for each client.
LEFT_BEHIND = """
SELECT pid, name FROM pg_settings, pg_backend_pid() AS pid WHERE source = 'session'
   AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')
"""
LEFT_LOCKED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


class Client:
    """A client of the deployment's API."""

    def __init__(self, running: Deployment) -> None:
        self.http = httpx.Client(
            base_url=f"{running.url}/api/v2",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
            trust_env=False,
        )

    def get(self, path: str) -> Any:
        """GET a path, which must be there."""
        return self.http.get(path).raise_for_status().json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST to a path, which must accept it."""
        return self.http.post(path, json=body).raise_for_status().json()

    def create(self, workflow: str) -> str:
        """Create a run; return its id."""
        return str(self.post("/runs", {"workflow": workflow, "request": "A CRM for dental clinics"})["id"])

    def waiting(self, run_id: str) -> dict[str, Any] | None:
        """Return the stage of a run that waits for a person."""
        stages = self.get(f"/runs/{run_id}")["stages"]
        return next((dict(stage) for stage in stages if stage["status"] == "waiting_approval"), None)


@contextmanager
def deployed_behind(
    bouncer: PgBouncer, database: str, redis_url: str, model: ModelServer, folder: Path, *, direct: bool
) -> Iterator[Deployment]:
    """Run an API and a worker that know the database by its pooler."""
    model_key = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    env = managed_environment(
        bouncer.url(urlsplit(database).path.strip("/")), redis_url, folder, VM_API_TOKEN=TOKEN, **model_key
    )
    with deployment(env | ({"VM_DB_DIRECT_URL": database} if direct else {}), folder) as running:
        yield running


@pytest.mark.parametrize(
    ("pooler", "direct"),
    [
        ("refuses options", True),
        ("swallows options", False),
        only_in_full("session mode", True),
        only_in_full("refuses options", False),
        only_in_full("swallows options", True),
        only_in_full("session mode", False),
    ],
)
def test_a_deployment_works_through_a_pooler(
    database: str,
    redis_url: str,
    model: ModelServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pooler: str,
    direct: bool,
) -> None:
    model.script = lambda body: Behaviour(text=f"# Document {len(model.requests)}")
    settings = POOLERS[pooler]
    in_transactions = settings.get("pool_mode") != "session"
    with ExitStack() as stack:
        bouncer = stack.enter_context(pgbouncer(database, **settings))
        running = stack.enter_context(deployed_behind(bouncer, database, redis_url, model, tmp_path, direct=direct))
        client = Client(running)
        eventually(lambda: client.http.get("/health/ready").status_code == 200, "ready", seconds=30)

        run_id = client.create("foundation")
        draft = eventually(lambda: client.waiting(run_id), "a draft waits")
        path = f"/runs/{run_id}/stages/{draft['key']}"
        digest = {"artifact_sha256": draft["artifact"]["sha256"]}
        client.post(f"{path}/request-changes", digest | {"feedback": "warmer, please"})
        while client.get(f"/runs/{run_id}")["status"] not in ("completed", "failed"):
            stage = client.waiting(run_id)
            if stage and stage["artifact"]["sha256"] != draft["artifact"]["sha256"]:
                draft = stage
                approval = {"artifact_sha256": stage["artifact"]["sha256"]}
                client.post(f"/runs/{run_id}/stages/{stage['key']}/approve", approval)
        assert client.get(f"/runs/{run_id}")["status"] == "completed"

        output = tmp_path / "documents"
        ran = command(
            capsys,
            running.env,
            *("run", "a calendar", "--workflow", "content_calendar", "--yes"),
            *("--base-url", running.url, "--output", str(output)),
        )
        assert (ran.code, len(list(output.iterdir()))) == (0, 2), ran
        names = bouncer.names()
        assert any(name.startswith("vm-webapp worker") for name in names)
        assert any(name.startswith("vm-webapp pulse") for name in names) is not direct

        model.script = lambda body: Behaviour(silent=True)
        canceled = client.create("content_calendar")
        eventually(lambda: model.in_flight == 1, "a call in flight")
        client.post(f"/runs/{canceled}/cancel", {})
        eventually(lambda: model.in_flight == 0, "the call is abandoned", seconds=5)
        assert client.get(f"/runs/{canceled}")["status"] == "canceled"
        assert client.http.get("/health/ready").status_code == 200

        found = {check["name"]: check for check in json.loads(command(capsys, running.env, "doctor", "--json").out)}
        unwell = {name: check for name, check in found.items() if check["verdict"] != "ok"}
        assert set(unwell) <= {"connections"} | (set() if direct or not in_transactions else {"pooler"}), unwell
        options = "swallowed" if "ignore_startup_parameters" in settings else "refused"
        assert f"the pooler {options} them" in found["time outs"]["detail"]
        assert ("transaction mode" in found["pooler"]["detail"]) is in_transactions
        assert ("direct address" in found) is direct

        migrated = command(capsys, running.env, "migrate", "up")
        if direct or not in_transactions:
            assert (migrated.code, migrated.out) == (0, "nothing to apply\n")
        else:
            assert (migrated.code, migrated.out, migrated.errors.count("\n")) == (2, "", 1)
            assert "set VM_DB_DIRECT_URL" in migrated.errors
        assert command(capsys, running.env, "queue").code == 0
        assert left_behind(bouncer, urlsplit(database).path.strip("/")) == []
        assert running.worker.stop() == 0, running.worker.output()
        assert "worker.loop_error" not in running.worker.output()
        assert running.api.stop() == 0
        assert "Traceback" not in running.api.output() + running.worker.output()


def left_behind(bouncer: PgBouncer, database: str) -> list[object]:
    """Return the settings and locks that other clients find in the sessions that they get."""
    clients: list[Any] = []
    found: list[object] = []
    try:
        # Several at once, each in a transaction, so that each gets a session of its own.
        for _ in range(3):
            clients.append(psycopg2.connect(bouncer.url(database)))
            with clients[-1].cursor() as cursor:
                cursor.execute(LEFT_BEHIND)
                found += cursor.fetchall()
                cursor.execute(LEFT_LOCKED)
                found += [count for (count,) in cursor.fetchall() if count]
    finally:
        for client in clients:
            client.close()
    return found


def test_a_direct_address_that_is_the_pooler_again_is_named(
    database: str, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pgbouncer(database) as bouncer:
        url = bouncer.url(urlsplit(database).path.strip("/"))
        env = managed_environment(url, redis_url, tmp_path, VM_DB_DIRECT_URL=url)
        found = {check["name"]: check for check in json.loads(command(capsys, env, "doctor", "--json").out)}
        assert re.search("VM_DB_DIRECT_URL is a pooler in transaction mode", found["direct address"]["detail"])
        assert command(capsys, env, "migrate", "status").code == 2


def test_operators_get_past_a_pooler_that_is_full(
    database: str, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pgbouncer(database, max_client_conn=1) as bouncer:
        url = bouncer.url(urlsplit(database).path.strip("/"))
        env = managed_environment(url, redis_url, tmp_path)
        stranger = psycopg2.connect(url)
        try:
            code, _, error = command(capsys, env, "queue")
            assert (code, error.count("\n")) == (1, 1)
            assert "no more connections allowed (max_client_conn): scale the services down" in error
            env |= {"VM_DB_DIRECT_URL": database}
            code, _, error = command(capsys, env, "queue")
            assert (code, error) == (0, "VM_DB_URL takes no more connections: this command uses VM_DB_DIRECT_URL\n")
            assert command(capsys, env, "migrate", "up").code == 0
        finally:
            stranger.close()
