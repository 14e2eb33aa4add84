"""The cap of a brand in a worker: never passed, always used, and no obstacle for others."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.runs import create, lost_hints, read, wait_until_still
from tests.worker.conftest import StartWorker, kimi
from vm_webapp.context import brands

CALL_SECONDS = 0.05


def create_run(brand_id: UUID | None = None) -> UUID:
    """Create a run."""
    return create("content_calendar", brand_id=brand_id).run.id


def most_running(brand_id: UUID) -> int:
    """Return how many stages of a brand were running at the same time, by their events."""
    changes = {"stage.started": 1, "stage.completed": -1}
    events: list[dict[str, Any]] = read(
        "SELECT type FROM events JOIN runs ON runs.id = events.run_id WHERE brand_id = %(id)s ORDER BY events.id",
        id=brand_id,
    )
    running, most = 0, 0
    for event in events:
        running += changes.get(event["type"], 0)
        most = max(most, running)
    return most


@pytest.mark.parametrize("cap", [None, 30], ids=["no cap of the model", "a cap of the model"])
@pytest.mark.parametrize("limit", [1, 3])
def test_a_worker_keeps_to_the_cap_of_a_brand_and_uses_it(
    start_worker: StartWorker, limit: int, cap: int | None
) -> None:
    brand = brands.create({"name": "One", "max_running": limit}, actor=OPERATOR).id
    with ModelServer(lambda body: delayed(CALL_SECONDS)) as model:
        runs = [create_run(brand) for _ in range(8)] + [create_run() for _ in range(4)]
        with start_worker(**kimi(model, worker_threads=6, llm_max_concurrency=cap), poll_seconds=30):
            assert {wait_until_still(run).status for run in runs} == {"completed"}
    assert most_running(brand) == limit


def test_a_stage_that_the_cap_held_back_begins_without_a_hint_too(start_worker: StartWorker) -> None:
    brand = brands.create({"name": "One", "max_running": 1}, actor=OPERATOR).id
    with ModelServer(lambda body: delayed(CALL_SECONDS)) as model, lost_hints():
        runs = [create_run(brand) for _ in range(4)]
        with start_worker(**kimi(model), redis=None, poll_seconds=0.1):
            assert {wait_until_still(run).status for run in runs} == {"completed"}
    assert most_running(brand) == 1


def test_others_begin_at_once_while_a_brand_is_at_its_cap(start_worker: StartWorker) -> None:
    brand = brands.create({"name": "One", "max_running": 1}, actor=OPERATOR).id
    with ModelServer(lambda body: delayed(CALL_SECONDS)) as model:
        held_back = [create_run(brand) for _ in range(30)]
        with start_worker(**kimi(model), poll_seconds=30):
            others = [wait_until_still(create_run(), seconds=5) for _ in range(3)]
            waiting = read("SELECT FROM runs WHERE brand_id = %(id)s AND started_at IS NULL", id=brand)
    assert {run.status for run in others} == {"completed"}
    assert len(held_back) > len(waiting) > 0
