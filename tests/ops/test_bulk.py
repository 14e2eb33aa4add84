"""Bulk commands change the runs that match, skip those that are locked, and wait for no lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from uuid import UUID, uuid4

import psycopg2
import pytest

from tests.support.runs import create, read, types
from vm_webapp.access.actor import Actor
from vm_webapp.cli.queue import QueueOptions, run_queue
from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import InvalidInput
from vm_webapp.ops import bulk
from vm_webapp.ops.bulk import BulkFilter, BulkResult
from vm_webapp.runs import lifecycle, queries
from vm_webapp.runs.lifecycle import Claimant
from vm_webapp.runs.signals import stage_due
from vm_webapp.runs.states import Failure
from vm_webapp.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def failed_run() -> UUID:
    """Return a run whose first stage has failed."""
    created, token = create(), uuid4()
    claim = lifecycle.claim_stage(created.stage_id, Claimant(uuid4(), "kimi"), token=token)
    assert claim is not None
    lifecycle.fail_attempt_if_held(claim, Failure("llm_failed", "it failed", permanent=True), jitter=0.5)
    return created.run.id


def status(run_id: UUID) -> str:
    """Return a run's status."""
    return queries.get_run(run_id).status


def test_canceling_changes_the_runs_that_match_and_no_others() -> None:
    queued, other, failed = create().run.id, create("plan_90d").run.id, failed_run()
    done = bulk.cancel_matching(BulkFilter(workflow="content_calendar"), actor=Actor("ops"))
    assert (done.matched, done.changed, done.busy, done.run_ids) == (1, 1, 0, (queued,))
    assert (status(queued), status(other), status(failed)) == ("canceled", "queued", "failed")
    assert types(queued)[-1] == "run.canceled"
    assert bulk.cancel_matching(BulkFilter(status="failed"), actor=Actor("ops")).run_ids == (failed,)


def test_the_age_counts_from_the_creation() -> None:
    old, new = create().run.id, create().run.id
    with transaction():
        execute("UPDATE runs SET created_at = now() - interval '2 hours' WHERE id = %(id)s", id=old)
    assert bulk.cancel_matching(BulkFilter(older_than_seconds=3600), actor=Actor("ops")).run_ids == (old,)
    assert status(new) == "queued"


def test_a_dry_run_returns_the_runs_and_changes_nothing() -> None:
    run_id = create().run.id
    done = bulk.cancel_matching(BulkFilter(status="queued"), actor=Actor("ops"), dry_run=True)
    assert (done.matched, done.changed, done.run_ids) == (1, 0, (run_id,))
    assert types(run_id) == ["run.created", "stage.queued"]


def test_retrying_makes_the_failed_stage_due() -> None:
    failed, queued = failed_run(), create().run.id
    due: list[UUID] = []
    with stage_due.connected(due.append):
        done = bulk.retry_matching(BulkFilter(workflow="content_calendar"), actor=Actor("ops"))
    assert (done.changed, done.run_ids, len(due)) == (1, (failed,), 1)
    assert types(failed)[-2:] == ["run.retried", "stage.queued"]
    assert "run.retried" not in types(queued)


def test_a_batch_is_bounded_and_counts_all_that_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    oldest = [create().run.id for _ in range(3)][:2]
    done = bulk.cancel_matching(BulkFilter(status="queued"), actor=Actor("ops"))
    assert (done.matched, done.changed, list(done.run_ids)) == (3, 2, oldest)
    assert done.next_after == oldest[-1]


def test_the_next_batch_starts_after_the_last_run_and_the_last_one_has_no_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    runs = [create().run.id for _ in range(4)]
    where = BulkFilter(status="queued")
    first = bulk.cancel_matching(where, actor=Actor("ops"), dry_run=True)
    second = bulk.cancel_matching(where, actor=Actor("ops"), after=first.next_after, dry_run=True)
    assert [*first.run_ids, *second.run_ids] == runs
    assert (second.matched, second.next_after) == (2, None)


@pytest.mark.parametrize("table", ["runs WHERE id", "stages WHERE run_id"])
def test_a_run_that_another_transaction_has_locked_is_skipped_without_waiting(database: str, table: str) -> None:
    held, free = create().run.id, create().run.id
    with closing(psycopg2.connect(database)) as session, session.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {table} = %s FOR UPDATE", (str(held),))
        done = bulk.cancel_matching(BulkFilter(status="queued"), actor=Actor("ops"))
    assert (done.matched, done.changed, done.busy) == (2, 1, 1)
    assert (status(held), status(free)) == ("queued", "canceled")


@pytest.mark.parametrize(
    ("change", "where", "text"),
    [
        (bulk.cancel_matching, BulkFilter(), "say which runs"),
        (bulk.retry_matching, BulkFilter(), "say which runs"),
        (bulk.cancel_matching, BulkFilter(status="completed"), "completed cannot be canceled"),
        (bulk.retry_matching, BulkFilter(status="queued"), "only failed runs"),
    ],
)
def test_a_filter_that_matches_everything_or_can_match_nothing_is_refused(
    change: Callable[..., BulkResult], where: BulkFilter, text: str
) -> None:
    create()
    with pytest.raises(InvalidInput, match=text):
        change(where, actor=Actor("ops"))
    assert read("SELECT DISTINCT status FROM runs") == [{"status": "queued"}]


def test_an_unknown_workflow_is_refused_but_not_a_known_one_without_runs() -> None:
    create()
    with pytest.raises(InvalidInput, match="no workflow 'nonesuch', nor a run of one; known: plan_90d"):
        bulk.cancel_matching(BulkFilter(workflow="nonesuch"), actor=Actor("ops"), workflows=["plan_90d"])
    assert (
        bulk.cancel_matching(BulkFilter(workflow="plan_90d"), actor=Actor("ops"), workflows=["plan_90d"]).matched == 0
    )
    assert bulk.cancel_matching(BulkFilter(workflow="content_calendar"), actor=Actor("ops"), dry_run=True).matched == 1


def options(action: str) -> QueueOptions:
    """Return the command's options for every run that can be canceled, or retried, without further options."""
    where = BulkFilter(status="failed" if action == "retry" else "queued")
    return QueueOptions(action, provider=None, reason=None, where=where, dry_run=False, base_url=None)


def test_the_command_retries_each_run_once_although_it_fails_again_at_once(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 3)
    runs = [failed_run() for _ in range(7)]
    # A trigger that undoes each update stands for runs that fail again before the next batch is read.
    with transaction():
        execute("CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'")
        for table in ("runs", "stages"):
            execute(f"CREATE TRIGGER undo BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION undo()")
    assert run_queue(Settings(db_url=database), options("retry")) == 0
    assert capsys.readouterr().out == "retried 7 runs\n"
    assert [types(run_id).count("run.retried") for run_id in runs] == [1] * 7
    assert read("SELECT count(*) AS n FROM runs WHERE status = 'failed'") == [{"n": 7}]


def test_the_command_continues_after_a_locked_run_and_counts_it(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 1)
    held, free = create().run.id, create().run.id
    with closing(psycopg2.connect(database)) as session, session.cursor() as cursor:
        cursor.execute("SELECT 1 FROM runs WHERE id = %s FOR UPDATE", (str(held),))
        assert run_queue(Settings(db_url=database), options("cancel")) == 1
    assert capsys.readouterr().out == "canceled 1 run\n1 run was busy at that moment: run the command again\n"
    assert (status(held), status(free)) == ("queued", "canceled")
