"""A Dramatiq worker of ours, or its pulse alone, inside the test's process, on real PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from dramatiq import Worker

from actors import broker
from actors.pulse import Pulse
from tests.support.waiting import eventually
from vm_webapp.execution.leases import HeldLeases
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.execution.stage_runner import StageRunner
from vm_webapp.fleet.heartbeats import WorkerIdentity
from vm_webapp.fleet.presence import Presence
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.offline import OfflineProvider
from vm_webapp.llm.template import TemplateProvider
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.settings import Settings

StartWorker = Callable[..., AbstractContextManager[Worker]]
MakePulse = Callable[..., Pulse]


@pytest.fixture
def start_worker(database: str, redis_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Return what runs a worker for a block: ``with start_worker(worker_threads=4): …``."""

    @contextmanager
    def start(*, redis: str | None = redis_url, poll_seconds: float = 0.5, **settings: Any) -> Iterator[Worker]:
        given = {"worker_threads": 4, "drain_seconds": 2.0} | settings
        broker.service.configure(
            Settings(db_url=database, redis_url=redis, workspace_root=tmp_path, **given), poll_seconds=poll_seconds
        )
        worker = Worker(broker, worker_threads=given["worker_threads"], worker_timeout=100)
        worker.start()
        try:
            eventually(lambda: broker.service.takes_work, "the worker takes work")
            yield worker
        finally:
            worker.stop(timeout=10_000)
            broker.middleware[:] = [broker.service]  # Dramatiq adds one for each worker of a process

    broker.bind(redis_url)
    yield start
    broker.bind(None)


@pytest.fixture
def make_pulse(database: str, tmp_path_factory: pytest.TempPathFactory) -> MakePulse:
    """Return what makes a pulse that ticks when told to."""
    claimant = Claimant(uuid4(), "offline")
    runner = StageRunner(
        claimant,
        model=OfflineProvider(),
        template=TemplateProvider(),
        calls=CallLoop(),
        leases=HeldLeases(),
        mirror=ArtifactMirror(tmp_path_factory.mktemp("mirror")),
        on_due=lambda id: None,
    )

    def make(
        *,
        prepare: Callable[[], str] = lambda: "",
        threads_alive: Callable[[], bool] = lambda: True,
        on_due: Callable[[UUID], object] = lambda id: None,
        on_deaf: Callable[[], object] = lambda: None,
        presence: Presence | None = None,
    ) -> Pulse:
        return Pulse(
            database,
            presence,
            WorkerIdentity(claimant.worker_id, "offline", 4),
            runner,
            prepare=prepare,
            threads_alive=threads_alive,
            on_due=on_due,
            on_deaf=on_deaf,
            hints_failed=lambda: 3,
        )

    return make
