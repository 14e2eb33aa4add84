"""Wires this package together: the broker, the actor and the middleware, which do not import each other.

Importing this module sets Dramatiq's broker but opens no connection. A process that only sends hints (the Dramatiq
messages that say that a stage may be due) loads no model client.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import dramatiq

from actors.broker import HintBroker
from actors.middleware import Runtime, WorkerMiddleware
from actors.stages import declare_execute_stage
from vm_webapp.runs.signals import run_changed, stage_due
from vm_webapp.settings import Settings

LAST_HINTS_SECONDS = 0.5


def _open_runtime(settings: Settings, **worker: Any) -> Runtime:
    # Imported here because only workers need the model clients; an API that sends hints starts without them.
    from actors.runtime import open_runtime

    return open_runtime(settings, broker=broker, connect=connected, **worker)


middleware = WorkerMiddleware(_open_runtime)
broker = HintBroker(middleware, [middleware])
execute_stage = declare_execute_stage(broker, middleware)
dramatiq.set_broker(broker)


@contextmanager
def connected(redis_url: str | None) -> Iterator[None]:
    """For the block, send workers a hint for each stage that becomes due, and wake the followers of each changed run.

    Args:
        redis_url: the Redis to use; without one (None) nothing is sent, and polling finds the stages.
    """
    before = broker.url
    broker.bind(redis_url)
    try:
        with stage_due.connected(_send_hint), run_changed.connected(broker.wake_followers):
            yield
    finally:
        # A short-lived command would exit before the sender's daemon thread has sent its last hints.
        broker.sender.flush(LAST_HINTS_SECONDS)
        broker.bind(before)


def _send_hint(stage_id: UUID) -> None:
    execute_stage.send(str(stage_id))
