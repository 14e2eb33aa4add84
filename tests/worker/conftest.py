"""A Dramatiq worker of ours inside the test's process, on real PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from dramatiq import Worker

from actors import broker
from tests.support.waiting import eventually
from vm_webapp.settings import Settings

StartWorker = Callable[..., AbstractContextManager[Worker]]


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
