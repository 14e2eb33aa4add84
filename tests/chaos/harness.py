"""A fleet of real processes on real servers, which a test starts, kills and replaces."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
import psycopg2

from tests.chaos.ledger import Orphan, orphans_of, worker_id_of
from tests.fakes.model_server import ModelServer
from tests.support.folders import open_folder
from tests.support.processes import Program, child_pids, is_running
from tests.support.ready_postgres import copy_ready
from tests.support.runs import read
from tests.support.waiting import eventually
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.local.postgres import EmbeddedPostgres
from vm_webapp.local.redis import EmbeddedRedis, find_redis_server

TAIL_CHARACTERS = 3000
NEW_RUN = {"workflow": "plan_90d", "request": "A plan for a bakery that delivers by bicycle", "auto_approve": True}


class Fleet:
    """Workers and APIs on one database, Redis and model server. The output of each goes to files.

    Args:
        folder: where the output goes.
        database_url: the database.
        redis_url: the Redis for hints, None to run without.
        model: the fake model server, None for the offline provider.

    Attributes:
        workers: the workers that were started and not removed since, oldest first.
    """

    def __init__(self, folder: Path, database_url: str, redis_url: str | None, model: ModelServer | None) -> None:
        self.workers: list[Program] = []
        self._folder = folder
        self._all: list[Program] = []
        self._apis: list[Api] = []
        self._env = {"VM_DB_URL": database_url, "VM_WORKSPACE_ROOT": str(folder / "workspace")}
        if redis_url:
            self._env["VM_REDIS_URL"] = redis_url
        if model:
            self._env |= {"KIMI_API_KEY": "sk-test", "KIMI_BASE_URL": model.base_url}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for api in self._apis:
            api.client.close()
        for running in self._all:
            if running.process.poll() is None:
                running.signal(signal.SIGCONT)
                running.kill()
        if error is not None:
            for running in self._all[-8:]:
                print(f"--- {running.stdout.parent.name}: {running.output()[-TAIL_CHARACTERS:]}")

    def start(self, count: int = 1, *, threads: int = 32, poll_ms: int = 500, **env: str) -> list[Program]:
        """Start workers; return at once, before they are ready."""
        arguments = ("worker", "--poll-interval-ms", str(poll_ms), "--threads", str(threads))
        started = [self._start(f"worker-{len(self._all):03}", *arguments, env=env) for _ in range(count)]
        self.workers += started
        return started

    def start_and_wait(self, count: int = 1, **options: Any) -> list[Program]:
        """Start workers; return when they take work."""
        started = self.start(count, **options)
        for worker in started:
            worker.says("worker.started", seconds=40)
        return started

    def start_api(self) -> Api:
        """Start an API without a worker of its own."""
        api = Api(self._start(f"api-{len(self._all):03}", "serve", "--no-worker", "--port", "0", env={}))
        self._apis.append(api)
        return api

    def kill(self, worker: Program) -> list[Orphan]:
        """Kill a worker; return the attempts that it had in progress."""
        worker_id = worker_id_of(worker.pid)
        killed_at = read("SELECT clock_timestamp() AS now")[0]["now"]
        worker.kill()
        self.workers.remove(worker)
        return orphans_of(worker_id, killed_at)

    def pids(self) -> list[int]:
        """Return the process ids of the workers that live."""
        return [worker.pid for worker in self.workers if is_running(worker.pid)]

    def _start(self, name: str, *arguments: str, env: dict[str, str]) -> Program:
        command = [sys.executable, "-m", "vm_webapp", *arguments]
        started = Program(command, self._env | env, self._folder / name)
        self._all.append(started)
        return started


@dataclass(frozen=True, slots=True)
class Posted:
    """The run that a POST /runs created, and the seconds that the request took."""

    run_id: UUID
    seconds: float


class Api:
    """A running API and a client of it."""

    def __init__(self, running: Program) -> None:
        self.program = running
        running.says("Worker ", seconds=40)
        found = re.search(r"API\s+(http://\S+)", running.output())
        assert found is not None
        self.client = httpx.Client(base_url=f"{found[1]}/api/v2", timeout=20, trust_env=False)

    def post_run(self, **changes: Any) -> Posted:
        """Create a run."""
        began = time.monotonic()
        response = self.client.post("/runs", json=NEW_RUN | changes)
        seconds = time.monotonic() - began
        assert response.status_code == 201, response.text
        return Posted(UUID(response.json()["id"]), seconds)

    def readiness(self) -> dict[str, Any]:
        """Return the body of the readiness probe."""
        body: dict[str, Any] = self.client.get("/health/ready").json()
        return body

    def says_redis_is(self, status: str) -> bool:
        """Whether readiness is ``ready`` with this status of Redis."""
        body = self.readiness()
        return (body["status"], body["dependencies"]["redis"]["status"]) == ("ready", status)


class OwnServer:
    """A server that a test may stop and restart, on the same data and address.

    Args:
        make: creates the server object. Each start needs a new one, because a stop removes its socket folder.
    """

    def __init__(self, make: Callable[[], EmbeddedPostgres | EmbeddedRedis]) -> None:
        self._make = make
        self._server = make()
        self.url = self._server.url

    def start(self) -> None:
        """Start the server unless it runs."""
        self._server = self._make()
        self._server.ensure_running()

    def stop(self) -> None:
        """Stop the server and wait for its end."""
        self._server.stop()

    def kill(self, pid: int) -> None:
        """Kill the server's process, even one in SIGSTOP, and wait for its end."""
        os.kill(pid, signal.SIGKILL)
        self._server.stop()

    def stop_immediately(self) -> None:
        """Stop the server as ``pg_ctl stop -m immediate`` does: it recovers when it starts again."""
        server = self.pid()
        pids = [server, *child_pids(server)]
        os.kill(server, signal.SIGQUIT)
        eventually(lambda: not any(map(is_running, pids)), "every process of the server has ended")

    def crash(self) -> None:
        """Kill the server's process and all of its children at the same moment, as a machine that loses power does."""
        # Stopped first, the server before its children are listed: it could start another one meanwhile, which would
        # wait for ever for what the others hold. And a child that finds its parent gone could still write what only
        # memory holds.
        server = self.pid()
        os.kill(server, signal.SIGSTOP)
        pids = [server, *child_pids(server)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        eventually(lambda: not any(map(is_running, pids)), "every process of the server has ended")

    def pid(self) -> int:
        """Return its process id."""
        pid = self._server.pid()
        assert pid is not None, "it runs"
        return pid


@contextmanager
def own_postgres(*, durable: bool = False, **settings: str) -> Iterator[OwnServer]:
    """Yield a migrated PostgreSQL for this test alone, with this process's pool connected to it.

    Args:
        durable: whether it writes to the disk what it commits; most tests need no disk.
        settings: of the server, by name.
    """
    with open_folder("vm-chaos-") as root:
        copy_ready(root / "postgres")
        server = OwnServer(lambda: EmbeddedPostgres(root / "postgres", durable=durable))
        server.start()
        try:
            configure(server.url, settings)
            open_pool(server.url, max_connections=8, application_name="tests")
            yield server
        finally:
            close_pool()
            server.stop()


def configure(url: str, settings: Mapping[str, str]) -> None:
    """Change settings of a PostgreSQL, and make it read them; some need a restart as well."""
    with closing(psycopg2.connect(url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            cursor.execute("SELECT pg_reload_conf()")


@contextmanager
def own_redis() -> Iterator[OwnServer]:
    """Yield a Redis for this test alone."""
    program = find_redis_server()
    assert program is not None
    with TemporaryDirectory(prefix="vm-chaos-") as root:
        server = OwnServer(lambda: EmbeddedRedis(Path(root) / "redis", program))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def every(seconds: float, *, during: float, do: Callable[[], object]) -> int:
    """Call a function every so many seconds; return how often it was called."""
    began, done = time.monotonic(), 0
    while (now := time.monotonic()) < began + during:
        do()
        done += 1
        time.sleep(max(0.0, now + seconds - time.monotonic()))
    return done


def wait_for_workers(count: int, *, seconds: float = 40.0) -> None:
    """Wait until so many workers have fresh heartbeats with the state ``working``."""
    sql = """
        SELECT count(*) AS n FROM worker_heartbeats
         WHERE state = 'working' AND last_tick_at > clock_timestamp() - interval '3 seconds'
    """
    eventually(lambda: read(sql)[0]["n"] >= count, f"{count} workers", seconds=seconds, every=0.1)
