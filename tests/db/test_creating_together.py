"""Runs that one statement creates are as those that are created one after the other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fleet import beat, change
from tests.support.runs import CATALOG, read
from vm_webapp.access.actor import Actor
from vm_webapp.ops.snapshot_purge import purge_snapshots
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.budget import Budget
from vm_webapp.runs.lifecycle import NewRun, PreparedRun
from vm_webapp.runs.records import RunRecord

pytestmark = pytest.mark.usefixtures("database")

ANN, BEN = Actor("key:ann", address="192.0.2.1", request_id="a"), Actor("key:ben", request_id="b")
PLAN, SMOKE = CATALOG.get("plan_90d"), CATALOG.get("smoke")
ASKED = (
    (NewRun(PLAN, "50 % of “all” \\ $1 %s\n{}'\""), ANN),
    (NewRun(PLAN, "x", auto_approve=True), ANN),
    (NewRun(SMOKE, "y", priority="low"), ANN),
    (NewRun(SMOKE, "z", budget=Budget(tokens=7)), BEN),
    (NewRun(PLAN, "x"), ANN),
)


def prepared() -> list[PreparedRun]:
    return [lifecycle.prepare_run(new, actor) for new, actor in ASKED]


def one_by_one() -> list[RunRecord]:
    return [lifecycle.create_run(new, actor=actor) for new, actor in ASKED]


def stored() -> dict[str, list[dict[str, Any]]]:
    """Return all that was written, without ids and times."""
    tables = {
        "runs": "TRUE ORDER BY id",
        "stages": "TRUE ORDER BY run_id, position",
        "events": "TRUE ORDER BY run_id, id",
        "audit_entries": "target IN (SELECT 'run:' || id FROM runs) ORDER BY id",
    }
    left_out = ["id", "run_id", "created_at", "queued_at", "available_at", "at", "xid", "target"]

    return {
        table: [
            each["row"]
            for each in read(f"SELECT to_jsonb(t) - %(left)s AS row FROM {table} t WHERE {which}", left=left_out)
        ]
        for table, which in tables.items()
    }


def test_they_are_stored_as_one_by_one() -> None:
    one_by_one()
    expected = stored()
    assert [len(rows) for rows in expected.values()] == [5, 3 * 3 + 2, 2 * 5, 5]
    change("TRUNCATE runs CASCADE")
    lifecycle.create_runs(prepared())
    assert stored() == expected


def test_they_are_answered_as_one_by_one() -> None:
    beat()
    one_by_one()  # what comes before
    asked = prepared()
    made = lifecycle.create_runs(asked)
    assert [run.id for run in made] == [each.run_id for each in asked]
    assert made == [queries.get_run(run.id) for run in made]
    places = [run.waiting_on.detail for run in made if run.waiting_on]
    assert len(set(places)) == 5


def test_no_place_is_counted_behind_a_hundred() -> None:
    beat()
    for _ in range(3):
        made = lifecycle.create_runs([lifecycle.prepare_run(NewRun(PLAN, "x"), ANN) for _ in range(34)])
    details = [run.waiting_on.detail for run in made if run.waiting_on]
    assert details[-3:] == [
        "in the queue: 99 stages are before it",
        "in the queue: 100 stages are before it",
        "in the queue: more than 100 stages are before it",
    ]


def test_a_snapshot_that_was_purged_is_stored_again() -> None:
    lifecycle.create_runs(prepared())
    change("TRUNCATE runs CASCADE")
    assert purge_snapshots()
    assert len(lifecycle.create_runs(prepared())) == 5
    assert len(read("SELECT FROM snapshots")) == 2
