"""Faults of a running deployment: readiness changes once, in time and with the right reason; liveness never does."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.harness import Api, Fleet, OwnServer, own_redis
from tests.fakes.tcp_proxy import Proxy
from tests.ops.faults import apply_future_migration, reopen_pool
from tests.ops.probe_log import ProbeLog
from tests.support.commands import command
from tests.support.databases import Databases
from tests.support.fleet import change
from tests.support.links import link_to_postgres
from tests.support.locks import holding
from tests.support.processes import Program
from tests.support.runs import create
from tests.support.waiting import eventually
from vm_webapp.db.pool import transaction

pytestmark = pytest.mark.timeout(300)

IN_TIME_SECONDS = 10.0
RUNS_LOCKED = "a lock on the table runs"

# A worker whose consumer thread dies on SIGUSR1.
CONSUMER_DIES_ON_SIGUSR1 = """
import ctypes, signal, sys, threading
from dramatiq.worker import ConsumerThread

def kill_consumer(number, frame):
    victim = next(each for each in threading.enumerate() if isinstance(each, ConsumerThread))
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(victim.ident), ctypes.py_object(SystemExit))

signal.signal(signal.SIGUSR1, kill_consumer)
from vm_webapp.cli import main
sys.exit(main(["worker", "--poll-interval-ms", "100"]))
"""


@dataclass
class Deployment:
    """An API, which reaches the database through a proxy that may fail, and a worker, which connects directly.

    Attributes:
        database: the proxy between the API and the database.
        redis: a Redis of their own.
        worker: the current worker.
        env: the environment of a worker.
        other_database_url: a database that is not theirs.
    """

    api: Api
    database: Proxy
    redis: OwnServer
    fleet: Fleet
    worker: Program
    env: dict[str, str]
    folder: Path
    other_database_url: str

    def replace_worker(self) -> None:
        """Start another worker and wait until it works."""
        (self.worker,) = self.fleet.start_and_wait()


@pytest.fixture
def deployment(database: str, databases: Databases, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment that works."""
    with (
        link_to_postgres(database) as (proxy, far_url),
        own_redis() as redis,
        Fleet(tmp_path / "worker", database, redis.url, None) as fleet,
        Fleet(tmp_path / "api", far_url, redis.url, None) as apis,
    ):
        api = apis.start_api()
        (worker,) = fleet.start_and_wait()
        env = {"VM_DB_URL": database, "VM_REDIS_URL": redis.url, "VM_WORKSPACE_ROOT": str(tmp_path / "workspace")}
        other = databases.take()
        # It has looked before there was a worker, and needs two more looks until it says so no more.
        eventually(lambda: api.readiness()["status"] == "ready", "the deployment is ready")
        yield Deployment(api, proxy, redis, fleet, worker, env, tmp_path, databases.url(other))
    databases.release(other)


@contextmanager
def database_down(deployment: Deployment) -> Iterator[None]:
    """The database's address refuses connections."""
    deployment.database.cut()
    yield
    deployment.database.restore()


@contextmanager
def connections_dead(deployment: Deployment) -> Iterator[None]:
    """Every connection of the pool stays open, and the server responds on none of them."""
    deployment.database.stall()
    yield
    deployment.database.restore()


@contextmanager
def schema_too_new(deployment: Deployment) -> Iterator[None]:
    """A newer build has migrated, without declaring that this build can run on the new schema."""
    apply_future_migration()
    yield
    change("DELETE FROM _yoyo_migration WHERE migration_id = '9999_from_the_future'")


@contextmanager
def nothing_claimed(deployment: Deployment) -> Iterator[None]:
    """The worker is alive and has free slots, but the database refuses every claim."""
    change(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''refused''; END';"
        " CREATE TRIGGER refuse BEFORE UPDATE ON stages FOR EACH ROW WHEN (new.status = 'running')"
        " EXECUTE FUNCTION refuse()"
    )
    create("smoke")
    yield
    change("DROP TRIGGER refuse ON stages; DROP FUNCTION refuse()")


@contextmanager
def run_locked(deployment: Deployment) -> Iterator[None]:
    """Every claim waits for the row of the only run, which an idle session has locked."""
    with transaction():
        run = create("smoke").run
        change("UPDATE stages SET available_at = now() + interval '1 h' WHERE run_id = %(id)s", id=run.id)
    with holding(deployment.env["VM_DB_URL"], f"SELECT FROM runs WHERE id = '{run.id}' FOR UPDATE"):
        change("UPDATE stages SET available_at = now() WHERE run_id = %(id)s", id=run.id)
        yield


@contextmanager
def heartbeat_locked(deployment: Deployment) -> Iterator[None]:
    """An idle session has locked the rows of all heartbeats."""
    with holding(deployment.env["VM_DB_URL"], "SELECT FROM worker_heartbeats FOR UPDATE"):
        yield


@contextmanager
def table_locked(deployment: Deployment) -> Iterator[None]:
    """DDL in a transaction that was left open has locked a table that only creation and claims need."""
    with holding(deployment.env["VM_DB_URL"], "LOCK TABLE runs IN ACCESS EXCLUSIVE MODE"):
        yield
        # It may still have the reason of what happened before.
        eventually(lambda: RUNS_LOCKED in str(deployment.api.readiness().get("reasons")), "not ready for this reason")
        # Longer than it takes until heartbeats would be missed: the reason must not become a consequence.
        for _ in range(8):
            assert RUNS_LOCKED in deployment.api.readiness()["reasons"][0]
            time.sleep(1)


@contextmanager
def loop_stuck(deployment: Deployment) -> Iterator[None]:
    """The worker's process exists but does nothing at all."""
    deployment.worker.signal(signal.SIGSTOP)
    yield
    deployment.worker.signal(signal.SIGCONT)


@contextmanager
def worker_unhealthy(deployment: Deployment) -> Iterator[None]:
    """The consumer thread has died in the only worker."""
    crippled = Program([sys.executable, "-c", CONSUMER_DIES_ON_SIGUSR1], deployment.env, deployment.folder / "crippled")
    try:
        crippled.says("worker.started", seconds=30)
        assert deployment.worker.stop() == 0
        crippled.signal(signal.SIGUSR1)
        yield
        assert crippled.wait() == 1, "it asks to be replaced"
        assert "worker.unhealthy" in crippled.output()
        assert "a consumer thread died" in crippled.output()
    finally:
        if crippled.process.poll() is None:
            crippled.kill()
    deployment.replace_worker()


@contextmanager
def worker_killed(deployment: Deployment) -> Iterator[None]:
    """No worker is left to claim stages."""
    deployment.worker.kill()
    yield
    deployment.replace_worker()


@contextmanager
def worker_elsewhere(deployment: Deployment) -> Iterator[None]:
    """The worker was started with the URL of another database."""
    deployment.worker.kill()
    (elsewhere,) = deployment.fleet.start_and_wait(VM_DB_URL=deployment.other_database_url)
    yield
    elsewhere.kill()
    deployment.replace_worker()


@contextmanager
def redis_down(deployment: Deployment) -> Iterator[None]:
    """Redis is stopped."""
    deployment.redis.stop()
    yield
    deployment.redis.start()


@contextmanager
def model_paused(deployment: Deployment) -> Iterator[None]:
    """The provider refuses our key."""
    change("INSERT INTO providers (name, paused_at) VALUES ('kimi', now())")
    yield
    change("DELETE FROM providers WHERE name = 'kimi'")


@contextmanager
def queue_paused(deployment: Deployment) -> Iterator[None]:
    """An operator has paused the queue."""
    change("UPDATE queues SET paused_at = now(), paused_by = 'ops'")
    yield
    change("UPDATE queues SET paused_at = NULL, paused_by = NULL")


def api_url(deployment: Deployment) -> str:
    """Return the API's base URL."""
    return str(deployment.api.client.base_url).partition("/api/v2")[0]


Fault = Callable[[Deployment], AbstractContextManager[None]]

# The faults that make readiness say ``not_ready``, each with its reason.
HINDERING: dict[Fault, str] = {
    database_down: "the database does not respond: check VM_DB_URL and that PostgreSQL is up",
    schema_too_new: "too new for this build: deploy a newer one, or python -m vm_webapp migrate down",
    nothing_claimed: "work that is due has not been claimed for 4 s: restart them",
    worker_unhealthy: "check the worker's log and restart it",
}
# Only with --full: these take long, and readiness detects them as it detects others.
HINDERING_IN_FULL: dict[Fault, str] = {
    run_locked: "a lock on a row of the table runs holds work up: python -m vm_webapp doctor names the session",
    heartbeat_locked: "a lock on a row of the table worker_heartbeats holds work up: python -m vm_webapp doctor",
    connections_dead: "check that PostgreSQL is up and can be reached",
    table_locked: "a lock on the table runs holds work up: python -m vm_webapp doctor names the session",
    loop_stuck: "no worker has sent a heartbeat for 6 s: check the worker's log and restart it",
    worker_killed: "no worker has sent a heartbeat for 6 s: check the worker's log and restart it",
    worker_elsewhere: "workers are alive, but on another database: give API and workers the same VM_DB_URL",
}
# The faults with which the API stays ready, each with the dependency whose status it changes, from what, to what. For
# the others see test_readiness: they are checked seldom (the workspace), or cannot be injected here (a clock that is
# wrong, a migration that can wait).
HARMLESS: dict[Fault, tuple[str, str, str]] = {
    redis_down: ("redis", "ok", "degraded"),
    model_paused: ("llm", "offline", "paused"),
}


# What stops or slows a deployment, and the words that tell each from the others.
INCIDENTS: dict[Fault, str] = {
    table_locked: "a lock on the table runs",
    heartbeat_locked: "a lock on a row of the table worker_heartbeats",
    queue_paused: "paused by ops",
    model_paused: "kimi is paused",
    schema_too_new: "too new for this build",
    loop_stuck: "no worker has sent a heartbeat",
    worker_elsewhere: "on another database",
}
AT_A_TIME = 3


def test_readiness_changes_once_each_way_in_time_and_says_what_to_do(deployment: Deployment, full: bool) -> None:
    faults = HINDERING | (HINDERING_IN_FULL if full else {})
    with ProbeLog(api_url(deployment)) as log:
        for fault, reason in faults.items():
            before = len(log.entries)
            with fault(deployment):
                began = time.monotonic()
                entry = log.wait_for("not_ready", seconds=IN_TIME_SECONDS)
                took = time.monotonic() - began
                assert len(entry.reasons) == 1, fault.__name__
                assert reason in entry.reasons[0], fault.__name__
            began = time.monotonic()
            log.wait_for("ready", seconds=IN_TIME_SECONDS)
            print(f"{fault.__name__}: not ready after {took:.1f} s, ready again after {time.monotonic() - began:.1f}")
            assert len(log.entries) == before + 2, (fault.__name__, log.entries)
    assert log.failed_liveness == []


def test_a_fault_that_stops_no_work_is_reported_and_the_api_stays_ready(deployment: Deployment) -> None:
    with ProbeLog(api_url(deployment)) as log:
        with ExitStack() as faults:
            for fault in HARMLESS:
                faults.enter_context(fault(deployment))
            for dependency, _, status in HARMLESS.values():
                log.wait_for_dependency(dependency, status, seconds=IN_TIME_SECONDS)
        for dependency, usual, _ in HARMLESS.values():
            log.wait_for_dependency(dependency, usual, seconds=IN_TIME_SECONDS)
    assert [entry.status for entry in log.entries] == ["ready"]
    assert log.failed_liveness == []


def test_a_rolling_deploy_shows_no_not_ready(deployment: Deployment) -> None:
    with ProbeLog(api_url(deployment)) as log:
        for _ in range(2):
            leaving = deployment.worker
            deployment.replace_worker()  # the platform starts the new one first, and stops the old one a minute later
            assert leaving.stop() == 0
    assert [entry.status for entry in log.entries] == ["ready"]
    assert log.failed_liveness == []


@pytest.mark.only_in_full  # the others have each reason; test_operations and test_doctor say what these two add
def test_whoever_does_not_know_the_incident_learns_it_from_queue_status_or_the_doctor_alone(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], full: bool
) -> None:
    env, lines = deployment.env, []

    def named_by(*arguments: str) -> set[str]:
        said = command(capsys, env, *arguments).out
        reopen_pool(env["VM_DB_URL"])  # the command has closed this process's pool
        return {words for words in INCIDENTS.values() if words in said}

    def names(expected: str, *arguments: str, until: float) -> float:
        # The cause alone, and none of its consequences.
        what = f"{' '.join(arguments)} names {expected}"
        eventually(lambda: named_by(*arguments) == {expected}, what, seconds=until - time.monotonic())
        return time.monotonic()

    for incident in random.sample(list(INCIDENTS), len(INCIDENTS) if full else AT_A_TIME):
        with incident(deployment):
            began = time.monotonic()
            for arguments in (("queue", "status"), ("doctor",)):
                seen = names(INCIDENTS[incident], *arguments, until=began + IN_TIME_SECONDS)
                lines.append(f"{incident.__name__}: named by {' '.join(arguments)} after {seen - began:.1f} s")
    with capsys.disabled():
        print("", *lines, sep="\n")
