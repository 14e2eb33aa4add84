"""Claims and finishes stages as a worker does, without a worker."""

from __future__ import annotations

from uuid import UUID, uuid4

from tests.support.runs import read
from vm_webapp.llm.base import Completion
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant

WORKER = Claimant(uuid4(), "kimi")


def claim_next(run_id: UUID | str) -> Claim:
    """Claim the run's due stage."""
    (stage,) = read("SELECT id FROM stages WHERE run_id = %(id)s AND status = 'queued'", id=run_id)
    claimed = lifecycle.claim_stage(stage["id"], WORKER, token=uuid4())
    assert claimed is not None
    return claimed


def finish_next(run_id: UUID | str, text: str = "# Text") -> None:
    """Claim the run's due stage and finish it with this text."""
    assert lifecycle.finish_stage_if_held(claim_next(run_id), Completion(text, "kimi"), WORKER, next_token=None)
