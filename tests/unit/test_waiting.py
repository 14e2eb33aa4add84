"""Why a queued stage is not claimed: the first thing that has to change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from vm_webapp.runs.pauses import Pause, Pauses
from vm_webapp.runs.waiting import QueuedStage, QueueFacts, why_queued

NOW = datetime(2026, 11, 25, 8, 30, tzinfo=UTC)
RUN = UUID(int=7)
STAGE = QueuedStage(RUN, "Research", True, NOW - timedelta(minutes=5), NOW, None, True)
BUSY = QueueFacts(
    working=1,
    alive=1,
    pauses=Pauses(None, {}),
    providers=frozenset({"kimi"}),
    held={},
    ahead={RUN: 3},
)
REVOKED = Pause(NOW, reason="HTTP 401")
PAUSED = Pauses(None, {"kimi": REVOKED})


@pytest.mark.parametrize(
    ("stage", "facts", "kind", "detail"),
    [
        (STAGE, BUSY, "queue", "in the queue: 3 stages are before it"),
        (
            STAGE,
            replace(BUSY, ahead={STAGE.run_id: 0}),
            "queue",
            "next in the queue: it begins as soon as a worker has a free slot",
        ),
        (STAGE, replace(BUSY, ahead={STAGE.run_id: 1}), "queue", "in the queue: 1 stage is before it"),
        (STAGE, replace(BUSY, ahead={}), "queue", "in the queue: more than 100 stages are before it"),
        (STAGE, replace(BUSY, working=0, alive=0), "no_worker", "no worker is alive"),
        (STAGE, replace(BUSY, working=0), "no_worker", "every worker is starting or draining"),
        (
            STAGE,
            replace(BUSY, pauses=Pauses(Pause(NOW), {}), held={RUN: "queue_paused"}),
            "queue_paused",
            "an operator has paused the queue",
        ),
        (
            STAGE,
            replace(BUSY, pauses=PAUSED, held={RUN: "provider_paused"}),
            "provider_paused",
            "kimi is paused until an operator resumes it: HTTP 401",
        ),
        (
            STAGE,
            replace(BUSY, held={RUN: "model_limit"}),
            "model_limit",
            "as many model calls are in flight as are allowed",
        ),
        (replace(STAGE, due=False, error="HTTP 503"), BUSY, "retry", "Research will be tried again: HTTP 503"),
        (
            replace(STAGE, needs_model=False),
            replace(BUSY, pauses=PAUSED),
            "queue",
            "in the queue: 3 stages are before it",
        ),
        (
            STAGE,
            replace(BUSY, pauses=Pauses(None, {"another": REVOKED})),
            "queue",
            "in the queue: 3 stages are before it",
        ),
    ],
)
def test_what_a_stage_waits_for(stage: QueuedStage, facts: QueueFacts, kind: str, detail: str) -> None:
    waiting = why_queued(stage, facts)
    assert (waiting.kind, waiting.detail) == (kind, detail)


def test_a_retry_says_until_when() -> None:
    later = NOW + timedelta(seconds=8)
    waiting = why_queued(replace(STAGE, due=False, available_at=later), BUSY)
    assert (waiting.since, waiting.until) == (STAGE.queued_at, later)


def test_an_automatic_pause_says_when_it_is_tried_again() -> None:
    soon = NOW + timedelta(seconds=30)
    pauses = Pauses(None, {"kimi": Pause(NOW, soon, reason="overloaded")})
    waiting = why_queued(STAGE, replace(BUSY, pauses=pauses, held={RUN: "provider_paused"}))
    assert waiting.until == soon
    assert "tried again by itself" in waiting.detail
