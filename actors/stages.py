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
    """Declare the actor ``execute_stage``. ``execute_stage.send(id)`` sends the hint that a stage may be due.

    Args:
        broker: the broker that delivers its messages.
        worker: holds the runtime that executes stages, in a worker process.
    """

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def execute_stage(stage_id: str) -> None:
        """Execute a stage if it is due, and the stages that follow it in its run.

        Args:
            stage_id: the stage. A hint for an unknown, finished or claimed stage is dropped.
        """
        try:
            parsed = UUID(stage_id)
        except ValueError:
            log.warning("hint.malformed", extra={"error": "not an id"})
            return
        if worker.takes_work:  # else the stage stays queued, and another worker's poll finds it
            _run_stage(worker.runtime, parsed)

    return execute_stage


def _run_stage(runtime: Runtime, stage_id: UUID) -> None:
    facts = {"stage_id": str(stage_id)}
    try:
        executed = runtime.run_stage(stage_id)
    except DatabaseUnavailable as error:
        log.warning("claim.failed", extra=facts | {"error": str(error)})
    except Exception:
        # For example, only a newer build can read this run. The stage stays queued for a worker of that build.
        runtime.count("claims_crashed")
        log.exception("claim.crashed", extra=facts)
    else:
        if not executed:
            runtime.count("not_due")
            log.info("hint.dropped", extra=facts)
