"""Indexes that grow at one end stay full, and the timeline's has one entry for all events of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.db.schemas import run_sql
from tests.support.databases import TEMPLATE, Databases

RUNS = 8_000
# As time and UUIDv7 keys grow: each row later, and its key higher, than the one before.
FILL = f"""
INSERT INTO runs (id, workflow, status, request, snapshot, created_at, brand_id, project_id)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'smoke', 'queued', 'a plan', '{{}}', now() + n * interval '1 ms',
       (SELECT id FROM brands), (SELECT id FROM projects)
  FROM generate_series(1, {RUNS}) n
"""
TELL = "INSERT INTO events (run_id, type, actor) SELECT id, 'run.created', 'tests' FROM runs, generate_series(1, 12)"
CONTEXT = """
INSERT INTO brands (id, name) VALUES (gen_random_uuid(), 'Pedal Bakery');
INSERT INTO projects (id, name) VALUES (gen_random_uuid(), 'Spring')
"""
SIZE = "SELECT pg_relation_size('{}')"


@pytest.fixture(scope="module")
def filled(databases: Databases) -> Iterator[str]:
    """A database to which runs were added in order, for all tests: each looks at an index of its own."""
    name = databases.copy(TEMPLATE)  # a database that others have used has room in its indexes
    run_sql(databases.url(name), f"{CONTEXT}; {FILL}")
    yield databases.url(name)
    databases.drop(name)


def size(url: str, index: str) -> int:
    ((found,),) = run_sql(url, SIZE.format(index))
    return int(found)


@pytest.mark.parametrize("index", ["runs_by_age", "runs_by_status", "runs_by_workflow", "runs_by_brand"])
def test_an_index_by_time_is_as_full_as_one_that_was_built_at_once(filled: str, index: str) -> None:
    grown = size(filled, index)
    run_sql(filled, f"REINDEX INDEX {index}")
    assert grown <= 1.1 * size(filled, index)


def test_the_index_of_the_timeline_takes_few_bytes_for_an_event(filled: str) -> None:
    run_sql(filled, TELL)
    assert size(filled, "events_of_run") / (12 * RUNS) < 15
