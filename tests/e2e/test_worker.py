"""The worker as a process: signals, exit codes, and Dramatiq's own command in its place."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors import connected
from tests.fakes.behaviours import Behaviour, delayed
from tests.fakes.model_server import ModelServer
from tests.support.deployment import managed_environment
from tests.support.processes import Program, program
from tests.support.runs import create, read, types, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import queries


@pytest.fixture
def env(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a worker in managed mode; this process sends hints to the same Redis."""
    model_key = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    with connected(redis_url):
        yield managed_environment(database, redis_url, tmp_path, **model_key)


@contextmanager
def stock_command(env: Mapping[str, str], folder: Path) -> Iterator[Program]:
    """Run ``dramatiq actors`` for the block."""
    running = Program([sys.executable, "-m", "dramatiq", "actors", "--processes", "1", "--threads", "4"], env, folder)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.process.wait(10)


def working() -> bool:
    """Whether a heartbeat reports the state "working"."""
    return bool(read("SELECT 1 AS found FROM worker_heartbeats WHERE state = 'working'"))


def test_sigterm_lets_calls_finish_and_ends_with_0(env: dict[str, str], model: ModelServer, tmp_path: Path) -> None:
    model.enqueue(delayed(1.5))
    with program("worker", "--poll-interval-ms", "100", env=env, folder=tmp_path / "log") as worker:
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1, seconds=20)
        worker.signal(signal.SIGTERM)
        # A process group may deliver a signal twice: within two seconds that counts as the same signal.
        worker.signal(signal.SIGTERM)
        eventually(lambda: read("SELECT 1 AS found FROM worker_heartbeats WHERE state = 'draining'"), "it drains")
        assert worker.wait() == 0
    run = queries.get_run(run_id)
    assert [stage.status for stage in run.stages] == ["completed", "queued"]
    assert read("SELECT state FROM worker_heartbeats") == [{"state": "stopped"}]


def test_a_late_second_signal_exits_at_once(env: dict[str, str], model: ModelServer, tmp_path: Path) -> None:
    model.enqueue(Behaviour(silent=True))
    with program("worker", "--poll-interval-ms", "100", env=env, folder=tmp_path / "log") as worker:
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1, seconds=20)
        worker.signal(signal.SIGTERM)
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > 2.2, "two seconds have passed")
        assert worker.process.poll() is None
        worker.signal(signal.SIGTERM)
        assert worker.wait(seconds=3) == 1
    assert queries.get_run(run_id).stages[0].status == "running"


def test_another_worker_claims_released_stages_at_once(env: dict[str, str], model: ModelServer, tmp_path: Path) -> None:
    model.enqueue(Behaviour(silent=True))
    given = env | {"VM_DRAIN_SECONDS": "0.2"}
    with program("worker", "--poll-interval-ms", "30000", env=given, folder=tmp_path / "one") as first:
        eventually(working, "the first works", seconds=20)
        run_id = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1, seconds=20)
        with program("worker", "--poll-interval-ms", "30000", env=env, folder=tmp_path / "two"):
            eventually(
                lambda: read("SELECT count(*) AS n FROM worker_heartbeats WHERE state = 'working'")[0]["n"] == 2,
                "the second works",
                seconds=20,
            )
            assert first.stop() == 0
            assert wait_until_still(run_id, seconds=5).status == "completed"
    assert "stage.released" in types(run_id)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SSL_CERT_FILE": "/nonexistent.pem"}, "SSL_CERT_FILE or SSL_CERT_DIR cannot be used (No such file"),
        (
            {"VM_REDIS_URL": "redis://127.0.0.1/0?socket_timeout=abc"},
            "VM_REDIS_URL: after ? stand db, username and password",
        ),
    ],
)
def test_a_worker_that_cannot_start_ends_with_one_line(
    env: dict[str, str], tmp_path: Path, given: dict[str, str], said: str
) -> None:
    with program("worker", env=env | given, folder=tmp_path / "log") as worker:
        assert worker.wait() == 2
    (line,) = worker.output().splitlines()
    assert line.startswith(f"vm_webapp: {said}")


def test_a_proxy_that_cannot_be_used_ends_no_worker(env: dict[str, str], tmp_path: Path) -> None:
    proxies = {"ALL_PROXY": "socks5://127.0.0.1:1", "NO_PROXY": "fd07:b51a:cc66:f0::/64,127.0.0.0/8"}
    with program("worker", env=env | proxies, folder=tmp_path / "log"):
        assert wait_until_still(create("content_calendar").run.id, seconds=30).status == "completed"


def test_a_signal_to_the_group_of_the_stock_command_is_one_signal(
    env: dict[str, str], model: ModelServer, tmp_path: Path
) -> None:
    model.enqueue(Behaviour(silent=True))
    with stock_command(env | {"VM_DRAIN_SECONDS": "1.5"}, tmp_path / "log") as stock:
        eventually(working, "it works", seconds=25)
        held = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1)
        os.killpg(stock.pid, signal.SIGTERM)
        assert stock.wait(seconds=30) == 0
    assert types(held)[-1] == "stage.released"
    assert read("SELECT state FROM worker_heartbeats") == [{"state": "stopped"}]


def test_a_worker_waits_for_a_schema_that_is_not_there_yet(env: dict[str, str], tmp_path: Path) -> None:
    with transaction():
        execute("ALTER TABLE _yoyo_migration RENAME TO hidden")
    with program("worker", env=env, folder=tmp_path / "log") as worker:
        worker.says("worker.starting")
        worker.says("python -m vm_webapp migrate")
        assert worker.stop(seconds=5) == 0
    with program("worker", env=env, folder=tmp_path / "again") as worker:
        worker.says("worker.starting")
        with transaction():
            execute("ALTER TABLE hidden RENAME TO _yoyo_migration")
        assert wait_until_still(create("smoke").run.id).status == "completed"


def test_a_worker_starts_before_its_database(env: dict[str, str], tmp_path: Path) -> None:
    given = env | {"VM_DB_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    with program("worker", env=given, folder=tmp_path / "log") as worker:
        worker.says("worker.starting")
        assert worker.stop(seconds=8) == 0
    assert "Traceback" not in worker.output()


def test_the_stock_dramatiq_command_is_a_full_worker(env: dict[str, str], model: ModelServer, tmp_path: Path) -> None:
    with stock_command(env | {"VM_DRAIN_SECONDS": "0.5"}, tmp_path / "log") as stock:
        eventually(working, "it works", seconds=25)
        run_id = create("plan_90d", auto_approve=True).run.id
        assert wait_until_still(run_id).status == "completed"
        model.enqueue(Behaviour(silent=True))
        held = create("content_calendar").run.id
        model.wait_until(lambda server: server.in_flight == 1)
        lease = "SELECT lease_expires_at AS at FROM stages WHERE run_id = %(id)s AND status = 'running'"
        first = read(lease, id=held)[0]["at"]
        eventually(lambda: read(lease, id=held)[0]["at"] > first, "the lease is renewed")
        assert stock.stop() == 0
    assert types(held)[-1] == "stage.released"
    assert read("SELECT state FROM worker_heartbeats") == [{"state": "stopped"}]
