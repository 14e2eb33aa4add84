"""The signals of the core: they fire after a commit and never without one, once a transaction, and harm no caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from peewee import DatabaseError, InternalError, OperationalError

from tests.db.attempts import OVERLOADED, REFUSED, TEXT, claimed, wait_for_approval
from tests.db.stages import create_stages, expire_leases
from tests.support.runs import create, read, types
from vm_webapp.access.actor import Actor
from vm_webapp.db.pool import database, dedicated_connection, execute, row, rows, transaction
from vm_webapp.errors import DatabaseUnavailable
from vm_webapp.idempotency import KeyedRequest, KeyScope, StoredResponse, run_once_per_key
from vm_webapp.ops import bulk
from vm_webapp.ops.bulk import BulkFilter
from vm_webapp.runs import lifecycle
from vm_webapp.runs.lifecycle import Claim, Claimant, Finished, NewRun
from vm_webapp.runs.signals import Signal, run_changed, run_created, stage_due
from vm_webapp.runs.states import Failure
from vm_webapp.workflows.loader import load_catalog

pytestmark = pytest.mark.usefixtures("database")

WORKER = Claimant(uuid4(), "kimi")
ID = UUID(int=7)


class Fired:
    """The ids with which the signals fired, in order."""

    def __init__(self) -> None:
        self.due: list[UUID] = []
        self.created: list[UUID] = []
        self.changed: list[UUID] = []

    def clear(self) -> None:
        """Forget them."""
        self.due.clear()
        self.created.clear()
        self.changed.clear()


@pytest.fixture
def fired() -> Iterator[Fired]:
    recorded = Fired()
    with (
        stage_due.connected(recorded.due.append),
        run_created.connected(recorded.created.append),
        run_changed.connected(recorded.changed.append),
    ):
        yield recorded


def queued_stage(run_id: UUID) -> UUID:
    """Return the stage of a run that is queued, of which there is one."""
    (stage,) = read("SELECT id FROM stages WHERE run_id = %(run)s AND status = 'queued'", run=run_id)
    found: UUID = stage["id"]
    return found


def test_a_signal_fires_when_the_commit_is_done_and_the_connection_given_back(fired: Fired) -> None:
    seen: list[tuple[object, int]] = []
    signal = Signal("tested")

    def record(id: UUID) -> None:
        seen.append((database.in_transaction(), database.taken))

    with signal.connected(record):
        with transaction():
            execute("UPDATE queues SET reason = 'x'")
            signal.raise_after_commit(ID)
            assert seen == []
        assert seen == [(False, 0)]


def test_within_another_transaction_it_waits_for_that_one_and_fires_once(fired: Fired) -> None:
    with transaction():
        with transaction():
            run_changed.raise_after_commit(ID)
        run_changed.raise_after_commit(ID)
        assert fired.changed == []
    assert fired.changed == [ID]


def test_a_statement_that_commits_by_itself_fires_at_once(fired: Fired) -> None:
    with database.connection_context():
        database.execute_sql("UPDATE queues SET reason = 'x'")
        run_changed.raise_after_commit(ID)
        assert fired.changed == [ID]


def test_a_signal_that_is_rolled_back_never_fires_not_even_with_the_next_commit(fired: Fired) -> None:
    with suppress(ZeroDivisionError), transaction():
        run_changed.raise_after_commit(ID)
        raise ZeroDivisionError
    with transaction():
        execute("UPDATE queues SET reason = 'x'")
    assert fired.changed == []


def test_a_block_that_continues_after_a_failed_statement_raises_and_commits_nothing(fired: Fired) -> None:
    def go_on() -> None:
        with transaction():
            execute("UPDATE queues SET reason = 'x'")
            run_changed.raise_after_commit(ID)
            with suppress(DatabaseError):
                execute("SELECT nothing")

    # PostgreSQL would execute the COMMIT as a rollback, without an error, and the signal would fire for nothing.
    with pytest.raises(InternalError, match="nothing can be committed"):
        go_on()
    assert fired.changed == []
    assert read("SELECT reason FROM queues") == [{"reason": None}]


def test_a_connection_that_breaks_before_the_commit_fires_nothing(fired: Fired, database: str) -> None:
    def break_off() -> None:
        with transaction():
            found = row("SELECT pg_backend_pid() AS pid")
            assert found is not None
            run_changed.raise_after_commit(ID)
            with closing(psycopg2.connect(database)) as session, session.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (found["pid"],))

    with pytest.raises(DatabaseUnavailable):
        break_off()
    assert fired.changed == []


def test_a_handler_that_raises_is_logged_and_changes_nothing(fired: Fired, caplog: pytest.LogCaptureFixture) -> None:
    def break_down(id: UUID) -> None:
        raise RuntimeError("a full disk")

    with ExitStack() as stack:
        # The one that raises is called first: the others must be called all the same.
        for handler in (break_down, (later := list[UUID]()).append):
            stack.enter_context(stage_due.connected(handler))
        run = lifecycle.create_run(NewRun(load_catalog().get("smoke"), "x"), actor=Actor("tests"))
    assert run.status == "queued"
    assert later == fired.due == [queued_stage(run.id)]
    (record,) = [each for each in caplog.records if each.message == "signal.failed"]
    assert record.exc_info is not None


def test_a_handler_is_not_called_after_its_block() -> None:
    calls: list[UUID] = []
    signal = Signal("tested")
    with signal.connected(calls.append):
        pass
    signal.raise_after_commit(ID)
    assert calls == []


def test_an_idempotent_replay_fires_nothing(fired: Fired) -> None:
    def effect() -> StoredResponse:
        lifecycle.create_run(NewRun(load_catalog().get("smoke"), "x"), actor=Actor("tests"))
        return StoredResponse(201, {}, b"{}")

    request = KeyedRequest.of(KeyScope("tests", "POST", "/runs", "key"), b"{}")
    assert run_once_per_key(request, effect).replayed is False
    assert (len(fired.due), len(fired.created)) == (1, 1)
    fired.clear()
    assert run_once_per_key(request, effect).replayed is True
    assert (fired.due, fired.created) == ([], [])


def create_it() -> UUID:
    return lifecycle.create_run(NewRun(load_catalog().get("smoke"), "x"), actor=Actor("tests")).id


def finish() -> UUID:
    held = claimed(create().stage_id)
    lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=None)
    return held.run_id


def release() -> UUID:
    held = claimed(create().stage_id)
    lifecycle.release_stage_if_held(held)
    return held.run_id


def rescue() -> UUID:
    held = claimed(create().stage_id)
    expire_leases()
    lifecycle.rescue_expired_leases()
    return held.run_id


def approve() -> UUID:
    created, digest = wait_for_approval()
    run_id = created.run.id
    lifecycle.approve_stage_if_waiting(
        run_id, "message", artifact_sha256=digest, content=None, note=None, actor=Actor("ann")
    )
    return run_id


def request_changes() -> UUID:
    created, digest = wait_for_approval()
    run_id = created.run.id
    lifecycle.request_changes_if_waiting(
        run_id, "message", artifact_sha256=digest, feedback="shorter", actor=Actor("ann")
    )
    return run_id


def fail_for_good() -> UUID:
    held = claimed(create().stage_id)
    assert lifecycle.fail_attempt_if_held(held, REFUSED, jitter=0) == "failed"
    return held.run_id


def retry() -> UUID:
    run_id = fail_for_good()
    lifecycle.retry_run_if_failed(run_id, from_stage=None, actor=Actor("ann"))
    return run_id


def retry_many() -> UUID:
    run_id = fail_for_good()
    assert bulk.retry_matching(BulkFilter(status="failed"), actor=Actor("ops")).changed == 1
    return run_id


def fork() -> UUID:
    parent = finish()
    return lifecycle.fork_run(parent, from_stage="calendar", request=None, actor=Actor("ann")).id


@pytest.mark.parametrize("act", [finish, release, rescue, approve, request_changes, retry, retry_many, fork])
def test_every_path_that_makes_a_stage_due_fires_both_signals(fired: Fired, act: Callable[[], UUID]) -> None:
    run_id = act()
    assert fired.due[-1] == queued_stage(run_id)
    assert fired.changed[-1] == run_id


def test_a_new_run_wakes_a_worker_and_no_follower(fired: Fired) -> None:
    run_id = create_it()
    assert (fired.due, fired.created) == ([queued_stage(run_id)], [run_id])
    assert fired.changed == [], "nobody can have followed it"


def test_a_stage_that_its_finisher_claims_at_once_fires_no_signal(fired: Fired) -> None:
    held = claimed(create().stage_id)
    fired.clear()
    finished = lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=uuid4())
    assert finished is not None
    assert finished.next is not None
    assert (fired.due, fired.changed) == ([], [held.run_id])


def test_a_stage_that_backs_off_is_not_signaled_as_due(fired: Fired) -> None:
    held = claimed(create().stage_id)
    fired.clear()
    assert lifecycle.fail_attempt_if_held(held, OVERLOADED, jitter=0) == "retrying"
    assert (fired.due, fired.changed) == ([], [held.run_id])


def test_a_batch_of_rescued_stages_fires_for_each(fired: Fired) -> None:
    stages = create_stages(3)
    for stage_id in stages:
        claimed(stage_id)
    expire_leases()
    fired.clear()
    lifecycle.rescue_expired_leases()
    assert set(fired.due) == set(stages)
    assert len(fired.changed) == 3


@pytest.fixture
def lose_the_result(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which the result of the next transaction is lost with its connection.

    The server executes its COMMIT, or the statement that is the whole transaction.
    """
    commit = database.commit
    send: Callable[..., Any] = database.execute_sql

    def lose() -> None:
        def break_off() -> None:
            database.connection().close()
            raise OperationalError("server closed the connection unexpectedly")

        def commit_and_lose() -> None:
            monkeypatch.undo()  # once only: the repetition commits as usual
            commit()
            break_off()

        def send_and_lose(sql: str, *arguments: Any, **options: Any) -> Any:
            alone = not database.in_transaction() and not sql.startswith("BEGIN")
            if alone:
                monkeypatch.undo()
            sent = send(sql, *arguments, **options)
            if alone:
                break_off()
            return sent

        monkeypatch.setattr(database, "commit", commit_and_lose)
        monkeypatch.setattr(database, "execute_sql", send_and_lose)

    return lose


def lost_and_repeated(lose_the_result: Callable[[], None], fired: Fired, act: Callable[[], object]) -> object:
    """Do something whose COMMIT succeeds unseen, and repeat it; return what the repetition returns."""
    fired.clear()
    lose_the_result()
    with pytest.raises(DatabaseUnavailable):
        act()
    # The change is committed and no one has been notified: the repetition has to make up for it.
    assert (fired.due, fired.changed) == ([], [])
    return act()


def test_a_claim_that_recognises_itself_signals_that_the_run_has_changed(
    fired: Fired, lose_the_result: Callable[[], None]
) -> None:
    created, token = create(), uuid4()
    again = lost_and_repeated(
        lose_the_result, fired, lambda: lifecycle.claim_stage(created.stage_id, WORKER, token=token)
    )
    assert isinstance(again, Claim)
    assert (fired.due, fired.changed) == ([], [created.run.id])
    assert types(created.run.id).count("stage.started") == 1


@pytest.mark.parametrize("claims_next", [False, True])
def test_a_finish_that_recognises_itself_signals_the_next_stage(
    fired: Fired, lose_the_result: Callable[[], None], claims_next: bool
) -> None:
    held, token = claimed(create().stage_id), uuid4() if claims_next else None
    again = lost_and_repeated(
        lose_the_result, fired, lambda: lifecycle.finish_stage_if_held(held, TEXT, WORKER, next_token=token)
    )
    assert isinstance(again, Finished)
    assert (again.next is not None) == claims_next
    assert fired.changed == [held.run_id]
    assert fired.due == ([] if claims_next else [queued_stage(held.run_id)])


def test_a_release_whose_result_is_lost_signals_that_the_stage_is_due(
    fired: Fired, lose_the_result: Callable[[], None]
) -> None:
    held = claimed(create().stage_id)
    lost_and_repeated(lose_the_result, fired, lambda: lifecycle.release_stage_if_held(held))
    assert (fired.due, fired.changed) == ([held.stage_id], [held.run_id])
    assert types(held.run_id).count("stage.released") == 1


@pytest.mark.parametrize("failure", [OVERLOADED, REFUSED])
def test_a_failure_whose_result_is_lost_signals_that_the_run_has_changed(
    fired: Fired, lose_the_result: Callable[[], None], failure: Failure
) -> None:
    held = claimed(create().stage_id)
    lost_and_repeated(lose_the_result, fired, lambda: lifecycle.fail_attempt_if_held(held, failure, jitter=0))
    assert (fired.due, fired.changed) == ([], [held.run_id])
    assert len(read("SELECT 1 AS found FROM events WHERE type IN ('stage.retry_scheduled', 'stage.failed')")) == 1


def test_a_connection_of_a_threads_own_has_a_unit_of_its_own(fired: Fired, database: str) -> None:
    with transaction():
        with (
            dedicated_connection(database, application_name="tests", statement_timeout_ms=3000),
            transaction(),
        ):
            stage_due.raise_after_commit(ID)
        assert fired.due == [ID]
        run_changed.raise_after_commit(ID)
        assert fired.changed == []
    assert fired.changed == [ID]


def test_a_signal_fires_when_the_events_are_committed(fired: Fired) -> None:
    seen: list[int] = []

    def count(run_id: UUID) -> None:
        with transaction():
            seen.append(rows("SELECT count(*) AS n FROM events WHERE run_id = %(id)s", id=run_id)[0]["n"])

    with run_created.connected(count):
        create_it()
    assert seen == [2]
