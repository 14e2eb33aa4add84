"""Everything that a worker process has open, opened in order and closed in the reverse one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from peewee import DatabaseError
from uuid_utils.compat import uuid7

from actors.housekeeping import Housekeeping
from actors.pulse import Pulse
from vm_webapp.db import migrate
from vm_webapp.db.pool import close_pool, open_pool
from vm_webapp.db.sessions import name_session
from vm_webapp.errors import DatabaseUnavailable, VMError
from vm_webapp.execution.leases import HeldLeases
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.execution.stage_runner import StageRunner
from vm_webapp.fleet.heartbeats import FRESH_SECONDS, Beat, WorkerIdentity, write_heartbeat
from vm_webapp.fleet.presence import Presence
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.choice import choose_provider
from vm_webapp.llm.template import TemplateProvider
from vm_webapp.local import start_local_servers
from vm_webapp.redis_client import quick_client
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.settings import Settings

if TYPE_CHECKING:
    from actors.broker import HintBroker

log = logging.getLogger(__name__)

POOL_CONNECTIONS = 5  # and one more for the pulse: six a worker process
LAST_HINTS_SECONDS = 0.5
PRESENCE_TIMEOUT_SECONDS = 0.1


@dataclass
class WorkerRuntime:
    """The parts of a worker.

    Attributes:
        runner: carries stages.
        pulse: the loop beside the threads.
        calls: the loop that the model is called on.
        drain_seconds: how long calls in flight may go on at shutdown.
    """

    runner: StageRunner
    pulse: Pulse
    calls: CallLoop
    drain_seconds: float
    _open: ExitStack = field(repr=False)

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: neither starting nor draining."""
        return self.pulse.started and not self.runner.draining.is_set()

    def close(self) -> None:
        """Say goodbye and close everything, the embedded servers last."""
        self.pulse.stop()
        self._open.close()


def open_runtime(
    settings: Settings,
    broker: HintBroker,
    *,
    threads: int,
    threads_alive: Callable[[], bool],
    on_deaf: Callable[[], object],
) -> WorkerRuntime:
    """Open what a worker needs. Neither the database nor Redis need to answer yet, unless they are embedded.

    Args:
        settings: what the environment says.
        broker: told where Redis is.
        threads: how many stages are carried at a time.
        threads_alive: whether every thread of the worker lives.
        on_deaf: called once when one has died.

    Raises:
        ConfigurationError: the configuration is wrong; what was opened is closed again.
    """
    with ExitStack() as opened:
        url, redis_url = settings.db_url, settings.redis_url
        if settings.mode == "local":
            servers = opened.enter_context(start_local_servers(settings.workspace_root))
            url, redis_url = servers.database_url, servers.redis_url
        assert url is not None, "every mode but local has VM_DB_URL"
        broker.bind(redis_url)
        opened.callback(broker.sender.flush, LAST_HINTS_SECONDS)
        open_pool(url, max_connections=POOL_CONNECTIONS, application_name=name_session("worker", settings.build))
        opened.callback(close_pool)
        mirror = ArtifactMirror(settings.workspace_root)
        model, template, calls = choose_provider(settings), TemplateProvider(), CallLoop()
        opened.callback(calls.close, model, template)
        claimant = Claimant(uuid7(), model.name, settings.llm_max_concurrency)

        def ring(stage_id: UUID) -> None:
            broker.get_actor("execute_stage").send(str(stage_id))

        runner = StageRunner(
            claimant,
            model=model,
            template=template,
            calls=calls,
            leases=HeldLeases(),
            mirror=mirror,
            on_due=ring,
            on_progress=broker.report,
        )
        identity = WorkerIdentity(claimant.worker_id, model.name, threads, claimant.cap, build=settings.build)
        pulse = Pulse(
            url,
            Presence(quick_client(redis_url, PRESENCE_TIMEOUT_SECONDS)) if redis_url else None,
            identity,
            runner,
            prepare=lambda: _prepare_schema(url, settings, identity),
            threads_alive=lambda: threads_alive() and calls.alive(),
            on_due=ring,
            on_deaf=on_deaf,
            hints_failed=lambda: broker.hints_failed,
            housekeeping=Housekeeping(settings.purge_older_than, mirror),
        )
        return WorkerRuntime(runner, pulse, calls, settings.drain_seconds, opened.pop_all())


def _prepare_schema(url: str, settings: Settings, identity: WorkerIdentity) -> str:
    """Make sure that the database has a schema this build works with, migrating where that is ours to do.

    Until it has, the worker's heartbeat says ``starting`` and why.

    Returns:
        Why work cannot begin yet, empty when it can.
    """
    try:
        schema = migrate.read_status(url)
        if schema.pending and not schema.too_new and not settings.managed:
            embedded = settings.mode == "local"
            migrate.apply_pending(url, heartbeat_seconds=FRESH_SECONDS, break_leftover_lock=embedded)
            return ""
        obstacle = schema.obstacle
    except VMError as error:
        obstacle = str(error)
    if obstacle:
        _say_starting(identity, obstacle)
    return obstacle


def _say_starting(identity: WorkerIdentity, obstacle: str) -> None:
    waiting = {"error": f"waiting to start: {obstacle}"[:300], "at": datetime.now(UTC).isoformat()}
    # On a schema of another age the table may be missing or different; then the log alone says it.
    with suppress(DatabaseError, DatabaseUnavailable):
        write_heartbeat(identity, Beat("starting", 0, last_error=waiting))
