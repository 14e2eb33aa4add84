"""Runs that have been read before: one that still reads the same is not put together again, and any other is."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import pytest

from tests.support.fleet import change
from tests.support.runs import create
from tests.support.statements import counted
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import close_pool, open_pool, rows, transaction
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.queries import RunFilter, runs
from vm_webapp.runs.queries.known import LONGEST_REQUEST, KnownRuns
from vm_webapp.runs.records import RunRecord

CHANGES = (
    "UPDATE runs SET request = 'another plan'",
    "UPDATE runs SET archived_at = now()",
    "UPDATE runs SET budget_tokens = 5",
    'UPDATE runs SET error = \'{"code": "a", "message": "b", "retryable": true}\'',
    "UPDATE stages SET title = 'Another' WHERE position = 2",
    "UPDATE stages SET attempt = attempt + 1 WHERE position = 1",
    "UPDATE stages SET provider = 'another' WHERE position = 1",
    "UPDATE stages SET requires_approval = NOT requires_approval WHERE position = 3",
    'UPDATE stages SET error = \'{"code": "a", "message": "b", "retryable": true}\' WHERE position = 1',
    "UPDATE stages SET spent_money = 0.5 WHERE position = 1",
    "UPDATE stages SET failed_prompt_tokens = 3 WHERE position = 1",
    "UPDATE stages SET available_at = now() + interval '1 h' WHERE position = 1",
    "INSERT INTO queues (name, paused_at) VALUES ('stages', now()) ON CONFLICT (name) DO UPDATE SET paused_at = now()",
)


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch) -> UUID:
    monkeypatch.setattr(runs, "_known", KnownRuns())
    return create("plan_90d", "a plan").run.id


def afresh(run_id: UUID, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_known", KnownRuns())
        return queries.get_run(run_id)


@pytest.mark.parametrize("sql", CHANGES)
def test_whatever_changes_is_read(run: UUID, sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = queries.get_run(run)
    change(sql)
    after = queries.get_run(run)
    assert after != before
    assert (
        after == afresh(run, monkeypatch) == queries.list_runs(RunFilter(archived=True), limit=1, after=None).items[0]
    )


def test_a_change_is_read_within_its_transaction_and_not_after_its_rollback(run: UUID) -> None:
    before = queries.get_run(run)
    with suppress(ZeroDivisionError), transaction():
        lifecycle.cancel_run_if_open(run, actor=Actor("tests"))
        assert queries.read_run(run).status == "canceled"
        raise ZeroDivisionError
    assert queries.get_run(run) == before
    lifecycle.cancel_run_if_open(run, actor=Actor("tests"))
    assert queries.get_run(run).status == "canceled"


def test_a_run_that_is_the_same_is_read_in_one_statement(run: UUID, database: str) -> None:
    lifecycle.cancel_run_if_open(run, actor=Actor("tests"))
    close_pool()
    with counted(database) as (traffic, url):
        open_pool(url, max_connections=1, application_name="tests")
        first = queries.get_run(run)
        traffic.taken()
        assert queries.get_run(run).reading is first.reading
        assert len(traffic.taken()) == 1
        close_pool()


def test_stages_that_change_while_they_are_read_are_not_kept(run: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    read = runs._stages

    def late(run_ids: list[UUID]) -> dict[UUID, list[dict[str, object]]]:
        change("UPDATE stages SET title = 'Late' WHERE position = 2")
        return read(run_ids)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_stages", late)
        assert queries.get_run(run).stages[1].title == "Late"
    change("UPDATE stages SET title = 'Later' WHERE position = 2")
    assert queries.get_run(run).stages[1].title == "Later"


def test_few_runs_are_kept_and_none_with_a_long_request(database: str) -> None:
    short, other, long = (create("smoke", text).run.id for text in ("a", "b", "c" * (LONGEST_REQUEST + 1)))
    known = KnownRuns(most=1)
    for run_id in (short, other, long):
        with transaction():
            (row,) = rows(runs._ONE, id=run_id)
            known.note(runs._put_together(row, runs._stages([run_id])[run_id]))
        assert len(known._runs) == 1
    assert list(known._runs) == [other]
