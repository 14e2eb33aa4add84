"""The actor that runs a stage."""

from __future__ import annotations

import logging
from typing import Any, Protocol
from uuid import UUID

import dramatiq
from dramatiq.broker import Broker

from vm_webapp.errors import DatabaseUnavailable

QUEUE = "stages"

log = logging.getLogger(__name__)


class StageWorker(Protocol):
    """What the actor needs of its worker."""

    @property
    def takes_work(self) -> bool:
        """Whether stages may be claimed: neither starting nor draining."""

    def run_stage(self, stage_id: UUID) -> int:
        """Claim a stage and carry its run on; return how many stages were carried."""

    def count(self, name: str) -> None:
        """Add one to a counter of the heartbeat."""


def declare_execute_stage(broker: Broker, worker: StageWorker) -> dramatiq.Actor[Any, Any]:
    """Declare the actor ``execute_stage`` on a broker; ``execute_stage.send(id)`` is the hint.

    Args:
        broker: whose messages call it.
        worker: what does the work in a worker process.
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
            _carry(worker, parsed)

    return execute_stage


def _carry(worker: StageWorker, stage_id: UUID) -> None:
    facts = {"stage_id": str(stage_id)}
    try:
        carried = worker.run_stage(stage_id)
    except DatabaseUnavailable as error:
        log.warning("claim.failed", extra=facts | {"error": str(error)})
    except Exception:
        # Such as a run that only a newer build can read. The stage stays queued, for a worker that can.
        worker.count("claims_crashed")
        log.exception("claim.crashed", extra=facts)
    else:
        if not carried:
            worker.count("not_due")
            log.info("hint.dropped", extra=facts)
