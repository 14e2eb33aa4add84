"""A history made of copies is one that the product could have left behind, and explaining it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import history
from benchmarks.explained import explaining
from benchmarks.history import add_finished_runs
from benchmarks.hot_statements import CLAIM, CREATE, FINISH, RENEW, explain_hot_statements, new_run
from tests.chaos.harness import own_postgres
from tests.support.runs import lost_hints, read
from vm_webapp.access.actor import Actor
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.queries import RunFilter

RUNS = 25
ORPHANS = """
    SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent,
           (SELECT attname FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[1]) AS "column",
           (SELECT attname FROM pg_attribute WHERE attrelid = confrelid AND attnum = confkey[1]) AS key
      FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text IN ('runs', 'stages', 'artifacts', 'events')
"""


@pytest.fixture(scope="module")
def filled() -> Iterator[None]:
    """A database with copies that were made in several batches, and with a queue."""
    with own_postgres() as postgres, pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "BATCH", 10)
        add_finished_runs(postgres.url, RUNS)
        with lost_hints():
            for _ in range(50):
                lifecycle.create_run(new_run(), actor=Actor("tests"))
        yield


@pytest.mark.usefixtures("filled")
def test_there_are_as_many_finished_runs_as_asked_for_and_all_are_alike() -> None:
    counts = read(
        """
        SELECT (SELECT count(*) FROM stages s WHERE s.run_id = r.id AND s.status = 'completed') AS stages,
               (SELECT count(*) FROM artifacts a WHERE a.run_id = r.id) AS artifacts,
               (SELECT count(*) FROM events e WHERE e.run_id = r.id) AS events
          FROM runs r WHERE status = 'completed'
        """
    )
    assert len(counts) == RUNS
    assert {(row["stages"], row["artifacts"], row["events"]) for row in counts} == {(3, 3, counts[0]["events"])}


@pytest.mark.usefixtures("filled")
def test_every_foreign_key_of_a_copy_holds() -> None:
    keys = read(ORPHANS)
    assert keys
    for key in keys:
        sql = (
            f"SELECT 1 FROM {key['child']} c WHERE c.{key['column']} IS NOT NULL"
            f" AND NOT EXISTS (SELECT 1 FROM {key['parent']} p WHERE p.{key['key']} = c.{key['column']})"
        )
        assert read(sql) == []


@pytest.mark.usefixtures("filled")
def test_copies_are_of_the_past_and_sort_by_their_age() -> None:
    runs = read("SELECT id, created_at FROM runs WHERE status = 'completed' ORDER BY id")
    assert [row["created_at"] for row in runs] == sorted(row["created_at"] for row in runs)
    assert (runs[-1]["created_at"] - runs[0]["created_at"]).total_seconds() >= (RUNS - 2) * history.SECONDS_APART


@pytest.mark.usefixtures("filled")
def test_a_copy_reads_like_any_other_run() -> None:
    page = queries.list_runs(RunFilter(status="completed"), limit=50, after=None)
    assert len(page.items) == RUNS
    events = queries.list_events(page.items[-1].id, after=0, limit=200)
    assert (events[0].type, events[-1].type) == ("run.created", "run.completed")


@pytest.mark.usefixtures("filled")
def test_what_is_explained_happens_once() -> None:
    before = read("SELECT count(*) AS n FROM runs")[0]["n"]
    with lost_hints(), explaining() as found:
        run = lifecycle.create_run(new_run(), actor=Actor("tests"))
    assert read("SELECT count(*) AS n FROM runs")[0]["n"] == before + 1
    assert [event.type for event in queries.list_events(run.id, after=0, limit=10)] == ["run.created", "stage.queued"]
    assert found[0].tables.startswith("writes ")
    assert "Execution Time" in found[0].plan
    explained = len(found)
    read("SELECT 1 AS one")
    assert len(found) == explained, "only what is executed in the block"


@pytest.mark.usefixtures("filled")
def test_every_hot_statement_is_explained() -> None:
    names = explain_hot_statements()
    for call in (CREATE, CLAIM, FINISH, RENEW, "lookup of expired leases", "poll for due stages", "GET /queue"):
        assert any(name == call or name.startswith(f"{call}: ") for name in names), call
    assert all(each.ms > 0 and each.plan for each in names.values())
    writing = {name for name, each in names.items() if each.tables.startswith("writes ")}
    assert {CLAIM, FINISH} <= writing
