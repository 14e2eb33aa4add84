"""What makes a Dramatiq worker one of ours, as a middleware: the stock ``dramatiq actors`` command gets it too.

Before the worker boots it opens the database, the providers and the pulse; when the worker shuts down it drains first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from dramatiq.broker import Broker
from dramatiq.middleware import Middleware
from uuid_utils.compat import uuid7

from actors.pulse import Pulse
from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.errors import DatabaseUnavailable, VMError
from vm_webapp.llm.base import Provider
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.choice import choose_provider
from vm_webapp.llm.template import TemplateProvider
from vm_webapp.local import LocalServers, start_local_servers
from vm_webapp.logs import configure_logging
from vm_webapp.runs.heartbeat import WorkerIdentity, due_stage_ids
from vm_webapp.runs.leases import HeldLeases
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.mirror import ArtifactMirror
from vm_webapp.runs.stage_runner import StageRunner
from vm_webapp.settings import Settings, read_settings

if TYPE_CHECKING:
    from dramatiq import Worker

    from actors.broker import HintBroker

log = logging.getLogger(__name__)

POOL_CONNECTIONS = 5  # and one more for the pulse: six a worker process
RELEASE_SECONDS = 10.0
SCHEMA_RETRY_SECONDS = 2.0


@dataclass
class WorkerRuntime:
    """Everything that a worker process has open."""

    runner: StageRunner
    pulse: Pulse
    calls: CallLoop
    providers: tuple[Provider, ...]
    drain_seconds: float
    servers: LocalServers | None


_runtime: WorkerRuntime | None = None


def current_runtime() -> WorkerRuntime:
    """Return this process's runtime; there is one from the worker's boot to its shutdown."""
    assert _runtime is not None, "actors run in a worker that has booted"
    return _runtime


class WorkerService(Middleware):
    """Opens the runtime with the worker and drains it at the end.

    Attributes:
        poll_seconds: how often an idle worker asks PostgreSQL for due stages.
    """

    def __init__(self) -> None:
        self.poll_seconds = 0.5
        self._settings: Settings | None = None

    @property
    def draining(self) -> bool:
        """Whether no more work is taken."""
        return _runtime is None or _runtime.runner.draining.is_set()

    @property
    def deaf(self) -> bool:
        """Whether a thread of the worker died, so that the process must be replaced."""
        return _runtime is not None and _runtime.pulse.deaf

    def configure(self, settings: Settings, *, poll_seconds: float) -> None:
        """Set what the process was started with; without this, the environment decides at boot."""
        self._settings = settings
        self.poll_seconds = poll_seconds

    def find_due(self, limit: int, *, without: list[UUID]) -> list[UUID]:
        """Return due stages. See ``due_stage_ids``."""
        return due_stage_ids(limit, without=without)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open the runtime. The process ends with code 2 when the configuration is wrong."""
        global _runtime
        # What is prefetched counts as work in progress, so nothing is hoarded beyond the threads there are.
        worker.queue_prefetch = worker.worker_threads
        try:
            _runtime = _open_runtime(self._settings or _settings_from_environment(), cast("HintBroker", broker), worker)
        except VMError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(2)

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start the pulse, now that there are threads to speak for."""
        current_runtime().pulse.start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Drain: take nothing more, let calls in flight finish, hand back the rest."""
        runtime = current_runtime()
        runtime.runner.draining.set()
        runtime.pulse.announce("draining")
        if not _wait_until(lambda: len(runtime.runner.leases) == 0, runtime.drain_seconds):
            handed_back = runtime.runner.leases.abandon_all()
            log.info("worker.releasing", extra={"stages": handed_back})
            _wait_until(lambda: len(runtime.runner.leases) == 0, RELEASE_SECONDS)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Say goodbye and close everything, the embedded servers last."""
        global _runtime
        runtime = current_runtime()
        runtime.pulse.stop()
        runtime.calls.close(*runtime.providers)
        close_pool()
        if runtime.servers is not None:
            runtime.servers.close()
        _runtime = None


def _settings_from_environment() -> Settings:
    settings = read_settings()
    configure_logging(settings.log_level, json=settings.managed)
    return settings


def _open_runtime(settings: Settings, broker: HintBroker, worker: Worker) -> WorkerRuntime:
    servers = start_local_servers(settings.workspace_root) if settings.mode == "local" else None
    url = servers.database_url if servers else settings.db_url
    assert url is not None, "every mode but local has VM_DB_URL"
    broker.bind(servers.redis_url if servers else settings.redis_url)
    open_pool(url, max_connections=POOL_CONNECTIONS, application_name="vm-webapp worker")
    _wait_for_schema(url, may_migrate=not settings.managed, embedded=servers is not None)
    model, template = choose_provider(settings), TemplateProvider()
    claimant = Claimant(uuid7(), model.name, settings.llm_max_concurrency)
    leases, calls = HeldLeases(), CallLoop()

    def ring(stage_id: UUID) -> None:
        broker.get_actor("execute_stage").send(str(stage_id))

    runner = StageRunner(
        claimant,
        model=model,
        template=template,
        calls=calls,
        leases=leases,
        mirror=ArtifactMirror(settings.workspace_root),
        on_due=ring,
    )
    pulse = Pulse(
        url,
        WorkerIdentity(claimant.worker_id, model.name, worker.worker_threads),
        runner,
        threads_alive=lambda: _all_alive(worker),
        on_due=ring,
        on_deaf=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    return WorkerRuntime(runner, pulse, calls, (model, template), settings.drain_seconds, servers)


def _wait_for_schema(url: str, *, may_migrate: bool, embedded: bool) -> None:
    """Wait until the database has the tables this build works with, migrating where that is ours to do."""
    said = ""
    while True:
        try:
            pending = migrate.read_status(url).pending
            if pending and may_migrate:
                migrate.apply_pending(url, break_leftover_lock=embedded)
                return
            reason = f"the database lacks {', '.join(pending)}: run python -m vm_webapp migrate" if pending else ""
        except DatabaseUnavailable as error:
            reason = str(error)
        except VMError as error:
            reason = str(error)
        if not reason:
            return
        if reason != said:
            log.warning("worker.starting", extra={"waiting_for": reason})
            said = reason
        time.sleep(SCHEMA_RETRY_SECONDS)


def _all_alive(worker: Any) -> bool:
    return all(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
