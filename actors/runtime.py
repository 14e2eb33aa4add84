"""Everything that a worker process keeps open. It is opened in order and closed in reverse order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from uuid_utils.compat import uuid7

from actors.broker import HintBroker
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
from actors.startup import prepare_schema
from actors.status import WorkerStatus
from vm_webapp.db.pool import OPERATOR_CONNECTIONS, close_pool, open_pool
from vm_webapp.db.sessions import name_session
from vm_webapp.execution.claiming import Claimer
from vm_webapp.execution.leases import HeldLeases
from vm_webapp.execution.mirror import ArtifactMirror
from vm_webapp.execution.mirror_writer import MirrorWriter
from vm_webapp.execution.stage_runner import StageRunner
from vm_webapp.fleet.heartbeats import WorkerIdentity
from vm_webapp.fleet.presence import Presence
from vm_webapp.llm.calls import CallLoop
from vm_webapp.llm.choice import choose_provider
from vm_webapp.llm.offline import TemplateProvider
from vm_webapp.llm.traced import TracedProvider
from vm_webapp.local.by_mode import servers_of
from vm_webapp.logs import process_logs_with
from vm_webapp.ops.workspace_probe import WorkspaceProbe
from vm_webapp.redis_client import quick_client
from vm_webapp.runs.lifecycle import Claim, Claimant, ClaimedStages
from vm_webapp.settings import Settings
from vm_webapp.tracing.opening import open_tracer

log = logging.getLogger(__name__)

RELEASE_SECONDS = 10.0
PRESENCE_TIMEOUT_SECONDS = 0.1


@dataclass
class WorkerRuntime:
    """The parts of a worker.

    Attributes:
        claimer: claims stages for the consumer.
        runner: executes stages.
        status: the worker's state.
        pulse: the worker's maintenance loop.
        calls: the asyncio loop that the model calls run on.
        drain_seconds: how long calls in flight may continue after a shutdown begins.
    """

    claimer: Claimer
    runner: StageRunner
    status: WorkerStatus
    pulse: Pulse
    calls: CallLoop
    drain_seconds: float
    _open: ExitStack = field(repr=False)

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: the worker is neither starting nor draining."""
        return self.status.started and not self.runner.draining.is_set()

    @property
    def unhealthy(self) -> bool:
        """Whether a thread of the worker has died or hangs, so that the process must be replaced."""
        return self.status.unhealthy

    def start(self) -> None:
        """Start the pulse."""
        self.pulse.start()

    def claim(self, at_most: int) -> ClaimedStages:
        """Claim due stages."""
        return self.claimer.claim(at_most)

    def release(self, claims: Iterable[Claim]) -> None:
        """Release stages that no thread has begun."""
        self.runner.release(claims)

    def run_stage(self, claim: Claim) -> int:
        """Execute a stage and those that follow in its run; return how many stages were executed."""
        return self.runner.run(claim)

    def count(self, name: str) -> None:
        """Add one to a counter that the heartbeat reports."""
        self.runner.activity.count(name)

    def drain(self) -> None:
        """Stop claiming, let calls in flight finish, and release the stages that do not finish in time."""
        self.runner.draining.set()
        self.status.leave("draining")
        self.pulse.tick_now()
        # Calls on a loop that died or hangs never end: waiting for them would only delay the next worker process.
        if not self.runner.wait_until_idle(self.drain_seconds if self.calls.alive() else 0.0):
            log.info("worker.releasing", extra={"stages": self.runner.leases.abandon_all()})
            self.runner.wait_until_idle(RELEASE_SECONDS)

    def close(self) -> None:
        """Write the last heartbeat, ``stopped``, and close everything, the embedded servers last."""
        self.status.leave("stopped")
        self.pulse.stop()
        self._open.close()


def open_runtime(
    settings: Settings,
    *,
    broker: HintBroker,
    connect: Callable[[str | None], AbstractContextManager[None]],
    threads: int,
    find_dead_thread: Callable[[], str],
    on_unhealthy: Callable[[], object],
) -> WorkerRuntime:
    """Open what a worker needs. The database and Redis need not respond yet, unless they are embedded.

    Args:
        settings: read from the environment.
        broker: publishes what the model writes, and counts the hints and notices that failed.
        connect: connects the core's signals (stage due, run changed) to a Redis for a block.
        threads: how many stages are executed at a time.
        find_dead_thread: returns which of Dramatiq's threads has died, empty when all of them live.
        on_unhealthy: called once when the worker has become unhealthy.

    Raises:
        ConfigurationError: the configuration is wrong; everything that was opened is closed again.
    """
    with ExitStack() as opened:
        servers = opened.enter_context(servers_of(settings))
        opened.enter_context(connect(servers.redis_url))
        worker_name = name_session("worker", settings.build)
        open_pool(
            servers.database_url,
            max_connections=settings.worker_connections - 1,  # the pulse has its own
            application_name=worker_name,
            leave_free=OPERATOR_CONNECTIONS,
        )
        opened.callback(close_pool)
        worker_id = uuid7()
        opened.enter_context(process_logs_with(worker=str(worker_id)))
        tracer = opened.enter_context(
            open_tracer(settings.tracing, service="vm-webapp-worker", build=settings.build, instance=str(worker_id))
        )
        mirror = ArtifactMirror(settings.workspace_root)
        copies = MirrorWriter(mirror)
        opened.callback(copies.close)
        model, template, calls = choose_provider(settings), TemplateProvider(), CallLoop()
        if tracer is not None and settings.kimi_api_key:
            model = TracedProvider(model, settings.kimi_base_url)
        opened.callback(calls.close, model, template)
        runner = StageRunner(
            Claimant(worker_id, model.name, settings.llm_max_concurrency),
            model=model,
            template=template,
            calls=calls,
            leases=HeldLeases(),
            mirror=copies,
            max_call_seconds=settings.llm_max_seconds,
            prices=settings.model_prices,
            on_progress=broker.report,
            tracer=tracer,
        )
        identity = WorkerIdentity(
            runner.claimant.worker_id, model.name, threads, runner.claimant.cap, build=settings.build
        )
        status = WorkerStatus(identity, on_unhealthy)
        probe = WorkspaceProbe(settings.workspace_root)
        presence = Presence(quick_client(servers.redis_url, PRESENCE_TIMEOUT_SECONDS)) if servers.redis_url else None
        pulse = Pulse(
            Duties(
                Renew(runner.leases),
                FollowClock(),
                Beat(
                    status,
                    runner.activity,
                    runner.leases,
                    presence=presence,
                    hints_failed=lambda: broker.hints_failed,
                    workspace=probe.latest,
                ),
                Rescue(runner.activity, tracer),
                FailSpent(),
                PurgeLeftovers(),
                PurgeRuns(settings.purge_older_than, mirror),
                PurgeAudit(settings.audit_keep),
                SealAudit(),
                SumUsage(runner.activity),
                MoveSnapshots(),
                Publish(status),
            ),
            status,
            runner.activity,
            prepare=lambda: prepare_schema(servers, settings, identity),
            find_fault=lambda: (
                find_dead_thread() or ("" if calls.alive() else "the loop of the model calls died or hangs")
            ),
            connection=lambda: pulse_connection(servers.session_url, settings.build),
        )
        probe.start()
        opened.callback(probe.stop)
        claimer = Claimer(runner.claimant, runner.activity)
        return WorkerRuntime(claimer, runner, status, pulse, calls, settings.drain_seconds, opened.pop_all())
