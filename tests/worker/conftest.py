"""A worker, or its pulse (the maintenance loop) alone, in the test's process, on a real PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dramatiq import Worker

from actors import broker, middleware
from actors.duties.beat import Beat
from actors.duties.fail_spent import FailSpent
from actors.duties.follow_clock import FollowClock
from actors.duties.move_snapshots import MoveSnapshots
from actors.duties.publish import Publish
from actors.duties.purge import PurgeAudit, PurgeLeftovers, PurgeRuns
from actors.duties.renew import Renew
from actors.duties.rescue import Rescue
from actors.duties.seal import SealAudit
from actors.duties.sum_usage import SumUsage
from actors.pulse import Duties, Pulse, pulse_connection
from actors.runtime import WorkerRuntime
from actors.status import WorkerStatus
from tests.fakes.model_server import ModelServer
from tests.support.waiting import eventually
from vm_webapp.execution.activity import Activity
from vm_webapp.execution.leases import HeldLeases
from vm_webapp.fleet.heartbeats import WorkerIdentity
from vm_webapp.fleet.presence import Presence
from vm_webapp.settings import Settings

StartWorker = Callable[..., AbstractContextManager[Worker]]


class TestedPulse(Pulse):
    """A pulse whose status tests can read."""

    __test__ = False

    def __init__(self, duties: Duties, status: WorkerStatus, *arguments: Any, **options: Any) -> None:
        super().__init__(duties, status, *arguments, **options)
        self.status = status


MakePulse = Callable[..., TestedPulse]


@pytest.fixture
def start_worker(database: str, redis_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Return a context manager that runs a worker: ``with start_worker(worker_threads=4): …``."""

    @contextmanager
    def start(*, redis: str | None = redis_url, poll_seconds: float = 0.5, **settings: Any) -> Iterator[Worker]:
        given = {"worker_threads": 4, "drain_seconds": 2.0} | settings
        middleware.configure(
            Settings(db_url=database, redis_url=redis, workspace_root=tmp_path, **given), poll_seconds=poll_seconds
        )
        worker = Worker(broker, worker_threads=given["worker_threads"], worker_timeout=100)
        worker.start()
        try:
            eventually(lambda: middleware.takes_work, "the worker takes work")
            yield worker
        finally:
            worker.stop(timeout=10_000)
            broker.middleware[:] = [middleware]  # each Worker adds its own middleware to the broker

    broker.bind(redis_url)
    yield start
    broker.bind(None)


@pytest.fixture
def make_pulse(database: str) -> MakePulse:
    """Return a factory of pulses that tick only when the test calls them."""
    identity, leases = WorkerIdentity(uuid4(), "offline", 4), HeldLeases()

    def make(
        *,
        prepare: Callable[[], str] = lambda: "",
        find_fault: Callable[[], str] = lambda: "",
        on_unhealthy: Callable[[], object] = lambda: None,
        presence: Presence | None = None,
    ) -> TestedPulse:
        status, activity = WorkerStatus(identity, on_unhealthy), Activity()
        beat = Beat(status, activity, leases, presence=presence, hints_failed=lambda: 3)
        return TestedPulse(
            Duties(
                Renew(leases),
                FollowClock(),
                beat,
                Rescue(activity),
                FailSpent(),
                PurgeLeftovers(),
                PurgeRuns(None),
                PurgeAudit(None),
                SealAudit(),
                SumUsage(activity),
                MoveSnapshots(),
                Publish(status),
            ),
            status,
            activity,
            prepare=prepare,
            find_fault=find_fault,
            connection=lambda: pulse_connection(database, "of the tests"),
        )

    return make


def runtime() -> WorkerRuntime:
    """Return the runtime of this process's worker."""
    opened = middleware.runtime
    assert isinstance(opened, WorkerRuntime)
    return opened


def kimi(model: ModelServer, **settings: Any) -> dict[str, Any]:
    """Return the settings of a worker that calls this server."""
    return {"kimi_api_key": "sk-test-key", "kimi_base_url": model.base_url, **settings}


def let_one_thread_die(worker: Worker) -> None:
    """Stop one of a worker's threads, as if it had crashed."""
    worker.workers[0].stop()
    worker.workers[0].join(5)
