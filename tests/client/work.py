"""What a worker does to a run, beside the event loop of the API and its client."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from tests.support.runs import read
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claimant

WORKER = Claimant(uuid4(), "kimi")


async def write_next(run_id: str, text: str = "# Text") -> None:
    """Let a worker write the document of the run's due stage."""
    await asyncio.to_thread(_write_next, run_id, text)


def _write_next(run_id: str, text: str) -> None:
    (stage,) = read("SELECT id FROM stages WHERE run_id = %(id)s AND status = 'queued'", id=run_id)
    claim = lifecycle.claim_stage(stage["id"], WORKER, token=uuid4())
    assert claim is not None
    assert lifecycle.finish_stage_if_held(claim, Completion(text, "kimi"), WORKER, next_token=None) is not None
