"""How many connections a schema change takes: a full server keeps only three for operators."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.db.schemas import FURTHER, further, later_build
from vm_webapp.db import migrate
from vm_webapp.db.bundle import MigrationFiles
from vm_webapp.db.poolers import open_session

TRANSACTIONAL = further()
ALONE = further(
    FURTHER,
    "transactional: false",
    up="CREATE TABLE notes (id int);\nCREATE INDEX CONCURRENTLY runs_mood ON runs (status);",
    down="DROP INDEX CONCURRENTLY runs_mood;\nDROP TABLE notes;",
)
FAILS = further(
    FURTHER,
    "transactional: false",
    up="CREATE INDEX CONCURRENTLY runs_mood ON runs (status);\nCREATE TABLE runs (id int);",
    down="SELECT 1;\nDROP INDEX CONCURRENTLY runs_mood;",
)


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return how many connections of migrations were open at once so far."""
    opened: weakref.WeakSet[Any] = weakref.WeakSet()
    counts = [0]

    def open_counted(*arguments: Any, **options: Any) -> Any:
        made = open_session(*arguments, **options)
        opened.add(made)
        counts.append(sum(not each.closed for each in opened))
        return made

    monkeypatch.setattr("vm_webapp.db.migrate.session.open_session", open_counted)
    return lambda: max(counts)


@pytest.mark.parametrize("files", [TRANSACTIONAL, ALONE], ids=["in a transaction", "alone"])
def test_up_and_down_take_two_connections_at_a_time(
    database_url: str, files: MigrationFiles, most: Callable[[], int]
) -> None:
    assert migrate.apply_pending(database_url, bundle=later_build(files)) == (FURTHER,)
    migrate.roll_back(database_url, migrate.plan_down(database_url, steps=1), alive=None)
    assert most() == 2


def test_one_that_fails_is_undone_on_two_connections(database_url: str, most: Callable[[], int]) -> None:
    with pytest.raises(migrate.MigrationFailed, match="already exists"):
        migrate.apply_pending(database_url, bundle=later_build(FAILS))
    assert most() == 2
