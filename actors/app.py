"""The parts of this package put together: the broker, the actor and the middleware that know nothing of each other.

Importing it sets Dramatiq's broker and connects to nothing. A process that only sends hints loads no model client.
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
    # Lazily: model clients and all the rest are for workers alone.
    from actors.runtime import open_runtime

    return open_runtime(settings, broker=broker, connect=connected, **worker)


middleware = WorkerMiddleware(_open_runtime)
broker = HintBroker(middleware, [middleware])
execute_stage = declare_execute_stage(broker, middleware)
dramatiq.set_broker(broker)


@contextmanager
def connected(redis_url: str | None) -> Iterator[None]:
    """Tell workers of stages that became due, and followers of runs that changed, for the block.

    Args:
        redis_url: over which Redis; None where there is none, and nobody is told.
    """
    before = broker.url
    broker.bind(redis_url)
    try:
        with stage_due.connected(_send_hint), run_changed.connected(broker.wake):
            yield
    finally:
        broker.sender.flush(LAST_HINTS_SECONDS)
        broker.bind(before)


def _send_hint(stage_id: UUID) -> None:
    execute_stage.send(str(stage_id))
