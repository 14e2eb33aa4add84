"""The actor that carries a stage."""

from __future__ import annotations

import logging
from uuid import UUID

import dramatiq

from actors.broker import broker
from vm_webapp.errors import DatabaseUnavailable

QUEUE = "stages"

log = logging.getLogger(__name__)


@dramatiq.actor(broker=broker, queue_name=QUEUE)
def execute_stage(stage_id: str) -> None:
    """Carry a stage that may be due, and its run's next ones. ``execute_stage.send(id)`` is the hint.

    Args:
        stage_id: the stage. One that is unknown, finished or taken is dropped; a lost one is found by polling.
    """
    try:
        parsed = UUID(stage_id)
    except ValueError:
        log.warning("hint.malformed", extra={"error": "not an id"})
        return
    if not broker.service.takes_work:
        return
    runner = broker.service.runtime.runner
    try:
        carried = runner.run(parsed)
    except DatabaseUnavailable as error:
        log.warning("claim.failed", extra={"stage_id": stage_id, "error": str(error)})
    except Exception:
        # Such as a run that only a newer build can read. The stage stays queued, for a worker that can.
        runner.activity.count("claims_crashed")
        log.exception("claim.crashed", extra={"stage_id": stage_id})
    else:
        if not carried:
            runner.activity.count("not_due")
            log.info("hint.dropped", extra={"stage_id": stage_id})
