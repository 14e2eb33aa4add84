"""A database without free connections: new processes wait and say so, old ones work, operators get in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psycopg2
import pytest

from tests.fakes.model_server import ModelServer
from tests.support.commands import command
from tests.support.deployment import address_of, managed_environment
from tests.support.folders import open_folder
from tests.support.processes import Program, program
from tests.support.waiting import eventually
from vm_webapp.db import migrate
from vm_webapp.db.connections import FREE
from vm_webapp.local import postgres, start_local_servers

TOKEN = "a-token-of-the-tests"
MOST = 23  # of which PostgreSQL keeps three for superusers


@pytest.fixture
def small_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes few connections: the URL of its database for a role without special rights."""
    few = tuple(f"max_connections={MOST}" if "max_connections" in each else each for each in postgres.SETTINGS)
    monkeypatch.setattr(postgres, "SETTINGS", few)
    with open_folder() as root, start_local_servers(root, durable=False) as running:
        with closing(psycopg2.connect(running.database_url)) as session, session.cursor() as cursor:
            session.autocommit = True
            cursor.execute("CREATE ROLE vm LOGIN; ALTER DATABASE vm_webapp OWNER TO vm")
        url = running.database_url.replace("postgres@", "vm@")
        migrate.apply_pending(url)
        yield url


class Strangers:
    """Sessions of somebody else, which take connections away."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self._url = url.replace("vm@", "postgres@")
        self._stack = stack.enter_context(ExitStack())
        self._taken: list[psycopg2.extensions.connection] = []
        self._session = self._connect()

    def leave(self, count: int) -> None:
        """Take connections until so many are free."""
        while self.free() > count:
            self._connect()

    def free(self) -> int:
        """Return how many connections are free."""
        with self._session.cursor() as cursor:
            cursor.execute(FREE)
            ((free,),) = cursor.fetchall()
            return int(free)

    def go(self) -> None:
        """Give all connections back."""
        self._stack.close()

    def _connect(self) -> psycopg2.extensions.connection:
        session = self._stack.enter_context(closing(psycopg2.connect(self._url)))
        session.autocommit = True
        self._taken.append(session)
        return session


def test_with_a_full_database_new_processes_wait_and_operators_get_in(
    small_database: str, redis_url: str, model: ModelServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_key = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    env = managed_environment(small_database, redis_url, tmp_path, VM_API_TOKEN=TOKEN, **model_key)
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> Program:
            return stack.enter_context(program(*arguments, env=env, folder=tmp_path / name))

        old_api, old_worker = start("old api", "serve", "--port", "0"), start("old worker", "worker")
        client = stack.enter_context(
            httpx.Client(
                base_url=f"{address_of(old_api)}/api/v2",
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=30,
                trust_env=False,
            )
        )
        eventually(lambda: client.get("/health/ready").status_code == 200, "the old ones work", seconds=30)
        strangers = Strangers(small_database, stack)
        strangers.leave(3)

        new_api, new_worker = start("new api", "serve", "--port", "0"), start("new worker", "worker")
        probe = f"{address_of(new_api)}/api/v2/health/ready"
        reasons = eventually(
            lambda: (said := httpx.get(probe, trust_env=False)).status_code == 503 and said.json()["reasons"],
            "the new API waits",
        )
        assert "takes no more connections: scale the services down" in reasons[0]
        new_worker.says("worker.starting")
        new_worker.says("fewer than 4 connections free")

        body = {"workflow": "content_calendar", "request": "a calendar"}
        runs = [client.post("/runs", json=body).raise_for_status().json()["id"] for _ in range(8)]
        for run_id in runs:
            run = eventually(
                lambda run_id=run_id: (  # type: ignore[misc]
                    (seen := client.get(f"/runs/{run_id}", params={"wait": 5}).json())["finished_at"] and seen
                ),
                "the run finishes",
                seconds=30,
            )
            assert run["status"] == "completed"
        assert client.get("/health/ready").status_code == 200

        found = {check["name"]: check for check in json.loads(command(capsys, env, "doctor", "--json").out)}
        assert found["connections"]["verdict"] == "warn"
        assert command(capsys, env, "queue").code == 0
        assert command(capsys, env, "migrate", "up") == (0, "nothing to apply\n", "")
        assert command(capsys, env, "migrate", "down", "--steps", "1", "--force", "--yes").code == 0
        assert command(capsys, env, "migrate", "up").code == 0

        assert new_api.output().count("database.full") == 1
        waits = [line for line in new_worker.output().splitlines() if "worker.starting" in line]
        assert len(waits) == len({json.loads(line)["waiting_for"] for line in waits})
        strangers.go()
        eventually(lambda: httpx.get(probe, trust_env=False).status_code == 200, "the new API works", seconds=20)
        alive = eventually(
            lambda: sum(each["state"] == "working" for each in client.get("/workers").json()["items"]) == 2,
            "the new worker works",
        )
        assert alive
        for running in (old_worker, new_worker, old_api, new_api):
            assert running.stop() == 0


def test_a_start_that_migrates_waits_for_a_connection(small_database: str, redis_url: str, tmp_path: Path) -> None:
    env = {"VM_DB_URL": small_database, "VM_REDIS_URL": redis_url, "VM_WORKSPACE_ROOT": str(tmp_path / "workspace")}
    with ExitStack() as stack:
        strangers = Strangers(small_database, stack)
        strangers.leave(0)
        serve = stack.enter_context(program("serve", "--port", "0", "--no-worker", env=env, folder=tmp_path / "log"))
        serve.says("waiting for a database connection: ", seconds=30)
        strangers.go()
        address_of(serve)
        assert serve.output().count("waiting for") == 1
        assert serve.stop() == 0
