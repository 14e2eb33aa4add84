"""Claims due stages for the threads of a worker process."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid4

from vm_webapp.execution.activity import Activity
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant, ClaimedStages, UnreadableClaim
from vm_webapp.text import shortened

log = logging.getLogger(__name__)

LEAVE_UNREADABLE_SECONDS = 60.0


class Claimer:
    """Claims stages for one worker process. Only one thread at a time may use it.

    Args:
        claimant: the worker for which stages are claimed.
        activity: counts the claims that this build cannot read.
    """

    def __init__(self, claimant: Claimant, activity: Activity) -> None:
        self._claimant = claimant
        self._activity = activity
        self._undecided: Sequence[UUID] = ()
        self._unreadable: dict[UUID, float] = {}

    def claim(self, at_most: int) -> ClaimedStages:
        """Claim as many due stages as the rules admit, but no more than ``at_most``.

        Where the result of the call before never arrived, the claims that it made come first.

        Raises:
            DatabaseUnavailable: the database did not respond.
        """
        if self._undecided:
            made = lifecycle.find_claims(self._undecided)
            self._undecided = ()
            if made:
                return ClaimedStages(made, more=True)
        tokens = [uuid4() for _ in range(at_most)]
        try:
            claimed = lifecycle.claim_due_stages(self._claimant, tokens, without=self._left_alone())
        except Exception:
            self._undecided = tokens
            raise
        for each in claimed.unreadable:
            self._leave_to_others(each)
        return claimed

    def _left_alone(self) -> list[UUID]:
        before = time.monotonic() - LEAVE_UNREADABLE_SECONDS
        self._unreadable = {id: when for id, when in self._unreadable.items() if when > before}
        return list(self._unreadable)

    def _leave_to_others(self, claim: UnreadableClaim) -> None:
        # Only a worker of a newer build can read it. Without a pause this one would claim and release it all the time.
        self._unreadable[claim.stage_id] = time.monotonic()
        self._activity.count("claims_crashed")
        log.error("claim.crashed", exc_info=claim.error, extra=facts_of(claim))
        release_unbegun(claim)


def facts_of(claim: Claim | UnreadableClaim) -> dict[str, Any]:
    """Return what the log says about a claim: its run, stage and attempt, and the request that created the run."""
    facts = {"run_id": str(claim.run_id), "stage": claim.key, "attempt": claim.attempt}
    return facts | ({"request_id": claim.request_id} if claim.request_id else {})


def release_unbegun(claim: Claim | UnreadableClaim) -> bool:
    """Release a stage that no thread has begun; return whether that worked. If not, its lease ends soon."""
    try:
        return lifecycle.release_stage_if_held(claim)
    except Exception as error:  # the consumer's thread must not die of it
        log.warning("claim.kept", extra=facts_of(claim) | {"error": shortened(error)})
        return False
