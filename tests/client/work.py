"""Executes stages as a worker does, without blocking the event loop of the API and its client."""

from __future__ import annotations

import asyncio

from tests.support.work import claim_next, finish_next
from vm_webapp.runs import lifecycle
from vm_webapp.runs.states import Failure

BROKEN = Failure("llm_bad_request", "HTTP 400", permanent=True)


async def write_next(run_id: str, text: str = "# Text") -> None:
    """Write the artifact of the run's due stage."""
    await asyncio.to_thread(finish_next, run_id, text)


async def fail_next(run_id: str) -> None:
    """Fail the run's due stage, so that the run fails."""

    def fail() -> None:
        assert lifecycle.fail_attempt_if_held(claim_next(run_id), BROKEN, jitter=1.0) == "failed"

    await asyncio.to_thread(fail)
