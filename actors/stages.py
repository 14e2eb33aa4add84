"""The actor that runs a stage."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import dramatiq
from dramatiq.broker import Broker

from actors.middleware import Runtime, WorkerMiddleware
from vm_webapp.errors import DatabaseUnavailable

QUEUE = "stages"

log = logging.getLogger(__name__)


def declare_execute_stage(broker: Broker, worker: WorkerMiddleware) -> dramatiq.Actor[Any, Any]:
    """Declare the actor ``execute_stage`` on a broker; ``execute_stage.send(id)`` is the hint.

    Args:
        broker: whose messages call it.
        worker: has, in a worker process, what does the work.
    """

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def execute_stage(stage_id: str) -> None:
        """Carry a stage that may be due, and its run's next ones.

        Args:
            stage_id: the stage. One that is unknown, finished or taken is dropped; a lost one is found by polling.
        """
        try:
            parsed = UUID(stage_id)
        except ValueError:
            log.warning("hint.malformed", extra={"error": "not an id"})
            return
        if worker.takes_work:
            _run_stage(worker.runtime, parsed)

    return execute_stage


def _run_stage(runtime: Runtime, stage_id: UUID) -> None:
    facts = {"stage_id": str(stage_id)}
    try:
        carried = runtime.run_stage(stage_id)
    except DatabaseUnavailable as error:
        log.warning("claim.failed", extra=facts | {"error": str(error)})
    except Exception:
        # Such as a run that only a newer build can read. The stage stays queued, for a worker that can.
        runtime.count("claims_crashed")
        log.exception("claim.crashed", extra=facts)
    else:
        if not carried:
            runtime.count("not_due")
            log.info("hint.dropped", extra=facts)
