"""A worker as a process, and a customer with a long backlog: others do not wait for it, and it hardly notices them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from actors import connected
from tests.fakes.behaviours import delayed
from tests.fakes.model_server import ModelServer
from tests.support.actors import OPERATOR
from tests.support.deployment import managed_environment
from tests.support.processes import program
from tests.support.runs import create, read, wait_until_still
from tests.support.waiting import eventually
from vm_webapp.context import brands

BACKLOG = 200
THREADS = 2
STAGES = 3
STAGE_SECONDS = 0.1
NEXT_STARTS = 100


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A fake Kimi for which all stages are equally long."""
    with ModelServer(lambda body: delayed(STAGE_SECONDS)) as server:
        yield server


@pytest.fixture
def env(database: str, redis_url: str, model: ModelServer, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a worker in managed mode; this process sends hints to the same Redis."""
    model_key = {"KIMI_API_KEY": "sk-test-key", "KIMI_BASE_URL": model.base_url}
    with connected(redis_url):
        yield managed_environment(database, redis_url, tmp_path, **model_key)


def make_brand() -> UUID:
    """Create a brand."""
    return brands.create({"name": "A brand"}, actor=OPERATOR).id


def create_run(brand_id: UUID) -> UUID:
    """Create a run with three stages."""
    return create("landing_page", brand_id=brand_id, auto_approve=True).run.id


def starts_and_ends_since(run_id: UUID) -> list[dict[str, Any]]:
    """Return what has begun or ended since a run was created, in its order, with the brand."""
    return read(
        """
        SELECT type, brand_id FROM events JOIN runs ON runs.id = events.run_id
         WHERE events.id > (SELECT min(id) FROM events WHERE run_id = %(id)s)
           AND type IN ('run.started', 'stage.started', 'stage.completed') ORDER BY events.id
        """,
        id=run_id,
    )


def starts_since(run_id: UUID) -> list[UUID]:
    """Return the brands whose stages have begun since a run was created, in their order."""
    return [event["brand_id"] for event in starts_and_ends_since(run_id) if event["type"] == "stage.started"]


def test_a_run_begins_within_three_stage_lengths_beside_a_backlog_which_keeps_its_pace(
    env: dict[str, str], tmp_path: Path
) -> None:
    ours, theirs = make_brand(), make_brand()
    backlog = [create_run(theirs) for _ in range(BACKLOG)]
    with program("worker", "--threads", str(THREADS), env=env, folder=tmp_path / "log"):
        wait_until_still(backlog[2], seconds=60)
        run_id = create_run(ours)
        eventually(lambda: len(starts_since(run_id)) >= NEXT_STARTS, "a hundred more stages have begun", seconds=120)
        assert wait_until_still(run_id).status == "completed"
    events = starts_and_ends_since(run_id)
    before_ours = list(takewhile(lambda event: event["brand_id"] == theirs, events))
    # The next slot takes it, unless that was claimed while the run was being created.
    assert [event["type"] for event in before_ours].count("run.started") <= 1
    assert [event["type"] for event in before_ours].count("stage.completed") <= THREADS * STAGES
    starts = starts_since(run_id)[:NEXT_STARTS]
    assert starts.count(ours) == STAGES
    assert starts.count(theirs) >= 0.95 * NEXT_STARTS


@pytest.mark.only_in_full
def test_two_backlogs_share_the_slots_equally(env: dict[str, str], tmp_path: Path) -> None:
    first, second = make_brand(), make_brand()
    backlog = [create_run(first) for _ in range(40)]
    late = [create_run(second) for _ in range(40)]
    with program("worker", "--threads", str(THREADS), env=env, folder=tmp_path / "log"):
        wait_until_still(backlog[14], seconds=60)
    begun = read("SELECT brand_id, count(*) AS n FROM runs WHERE started_at IS NOT NULL GROUP BY brand_id")
    counts = {each["brand_id"]: each["n"] for each in begun}
    assert abs(counts[first] - counts[second]) <= THREADS
    assert len(late) > counts[second]
