"""Executes a stage as a worker does, without blocking the event loop of the API and its client."""

from __future__ import annotations

import asyncio

from tests.support.work import finish_next


async def write_next(run_id: str, text: str = "# Text") -> None:
    """Write the artifact of the run's due stage."""
    await asyncio.to_thread(finish_next, run_id, text)
