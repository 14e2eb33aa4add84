"""A run whose page has much to show: ten documents and two hundred events."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from tests.support.runs import CATALOG, TESTER, read
from tests.support.work import finish_next
from vm_webapp.db.pool import execute, transaction
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import NewRun

DOCUMENTS, EVENTS = 10, 200
TEXT = "# Text\n\nSome **bold** words and [a link](https://bakery.example).\n\n" * 200
_FAILURES = """
    INSERT INTO events (run_id, stage, type, actor, data)
    SELECT %(id)s, %(stage)s, CASE WHEN n %% 2 = 0 THEN 'stage.started' ELSE 'stage.retry_scheduled' END, 'worker',
           '{"attempt": 1, "code": "llm_overloaded", "message": "too busy", "delay_seconds": 2.5}'
      FROM generate_series(1, %(count)s) n
"""


def create_long_run() -> UUID:
    """Create a run with ``DOCUMENTS`` documents, complete, and ``EVENTS`` events; return its id."""
    workflow = CATALOG.get("foundation")
    stages = tuple(
        replace(workflow.stages[0], key=f"part_{number}", title=f"Part {number}") for number in range(DOCUMENTS)
    )
    new = NewRun(replace(workflow, stages=stages), "Everything about a bakery", auto_approve=True)
    run_id = lifecycle.create_run(new, actor=TESTER).id
    for _ in stages:
        finish_next(run_id, TEXT)
    (found,) = read("SELECT count(*) FROM events WHERE run_id = %(id)s", id=run_id)
    add_failures(run_id, "part_0", EVENTS - found["count"])
    return run_id


def add_failures(run_id: UUID, stage: str, count: int) -> None:
    """Add events of attempts that failed to a run's timeline."""
    with transaction():
        execute(_FAILURES, id=run_id, stage=stage, count=count)
