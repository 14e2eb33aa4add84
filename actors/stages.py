"""The actor that runs a stage."""

from __future__ import annotations

import logging
from typing import Any

import dramatiq
from dramatiq.broker import Broker

from actors.dramatiq_queue import QUEUE
from actors.middleware import Runtime, WorkerMiddleware
from vm_webapp.execution.claiming import facts_of
from vm_webapp.runs.lifecycle import Claim

log = logging.getLogger(__name__)


def declare_execute_stage(broker: Broker, worker: WorkerMiddleware) -> dramatiq.Actor[Any, Any]:
    """Declare the actor ``execute_stage``. ``execute_stage.send(id)`` sends the hint that a stage may be due.

    Args:
        broker: the broker that delivers its messages.
        worker: holds the runtime that executes stages, in a worker process.
    """

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def execute_stage(stage: Claim | str) -> None:
        """Execute a stage and those that follow it in its run.

        Args:
            stage: what a worker's consumer has claimed. In a message that is sent it is the id of a stage that is due:
                such a hint makes a consumer claim what is due, and reaches no thread.
        """
        assert isinstance(stage, Claim), "a consumer hands out claims only"
        _run_stage(worker.runtime, stage)

    return execute_stage


def _run_stage(runtime: Runtime, claim: Claim) -> None:
    try:
        runtime.run_stage(claim)
    except Exception:
        runtime.count("stages_crashed")
        log.exception("stage.crashed", extra=facts_of(claim))
