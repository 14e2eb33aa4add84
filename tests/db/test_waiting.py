"""The place in the queue, as the statement that creates a run and the query for runs tell it."""

from __future__ import annotations

import pytest

from tests.db.attempts import claim
from tests.support.fleet import beat
from tests.support.runs import CreatedRun, create
from vm_webapp.runs import queries
from vm_webapp.runs.queries import RunFilter
from vm_webapp.runs.statements import MOST_COUNTED

pytestmark = pytest.mark.usefixtures("database")


def places(created: CreatedRun) -> set[str]:
    """Return what the run waits for, as it was created, by its id and in a listing."""
    listed = queries.list_runs(RunFilter(), limit=200, after=None).items
    shown = [created.run, queries.get_run(created.run.id), *(run for run in listed if run.id == created.run.id)]
    assert len(shown) == 3
    return {run.waiting_on.detail for run in shown if run.waiting_on is not None}


def test_no_more_than_a_hundred_stages_are_counted() -> None:
    beat()
    assert places(create()) == {"next in the queue: it begins as soon as a worker has a free slot"}
    assert places(create()) == {"in the queue: 1 stage is before it"}
    for _ in range(MOST_COUNTED - 2):
        create()
    assert places(create()) == {f"in the queue: {MOST_COUNTED} stages are before it"}
    assert places(create()) == {f"in the queue: more than {MOST_COUNTED} stages are before it"}


def test_only_due_stages_that_come_first_are_counted() -> None:
    beat()
    create(priority="low")
    running = create()
    assert claim(running.stage_id)
    assert places(create()) == {"next in the queue: it begins as soon as a worker has a free slot"}
    assert places(create(priority="low")) == {"in the queue: 2 stages are before it"}
